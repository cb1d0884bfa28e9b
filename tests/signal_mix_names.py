"""Names of columns as the tools and datasets of the field write them, and the families that each is of.

Collected from libvmaf and its Python scripts, ffmpeg's filters (psnr, ssim, xpsnr, signalstats, siti, scdet,
blurdetect, blockdetect, idet, entropy, freezedetect), ffprobe, MediaInfo, MSU VQMT, pyiqa and piq, sewar,
bitstream_mode3_p1204_3 and AVQBits, VIDEVAL, TLVQM, RAPIQUE and BRISQUE, encoders' options, players' logs, and
the tables of KoNViD-1k, LIVE-VQC, YouTube-UGC, LSVQ, CHUG, AVT-VQDB and others. Each line is a set of families.
"""

from __future__ import annotations

FR, ERROR, STRUCTURE, TEXTURE = "canonical_fr", "error_energy", "structural_similarity", "texture_deep_perceptual"
COLOUR, BANDING, TIME, SALIENCY = "color_chroma", "banding_tone_mapping", "temporal_flicker", "saliency_roi"
DISPLAY, SOURCE, CODEC = "hdr_display_panel", "source_geometry_content", "codec_encoder"
OPINION, NOISE = "no_reference_ugc", "noise_grain_blur"

LISTS: list[tuple[tuple[str, ...], str]] = [
    # --- libvmaf
    (
        (FR,),
        """vmaf vmaf_score vmaf_neg vmaf_4k vmaf_hd_phone vmaf_v0.6.1 vmaf_b_v0.6.3 VMAF_score vmaf_mean vmaf_min
        vmaf_harmonic_mean vmaf_hmean BOOTSTRAP_VMAF_score vmaf_bagging vmaf_ci95_low adm adm2 adm3 adm_scale0
        adm_scale3 integer_adm2 integer_adm_scale1 integer_adm3 float_adm2 VMAF_feature_adm2_score aim
        integer_aim vif vifp vif_p vif_scale0 vif_scale3 integer_vif_scale2 float_vif_scale1 scale_0 scale_3
        VMAF_integer_feature_vif_scale0_score dlm ifc funque y_funque funque_plus""",
    ),
    (
        (FR, TIME),
        """motion motion2 motion3 integer_motion integer_motion2 integer_motion3 float_motion2 motion_mean
        VMAF_integer_feature_motion2_score motion2_score motion2_hmean adm2_p10 vmaf_p5 vmaf_p1 vmaf_std vif_p90
        vmaf_p95 vmaf_stddev""",
    ),
    (
        (ERROR,),
        """psnr psnr_y psnr_avg psnr_mean psnr_yuv psnr_hvs psnr_hvs_y psnr-hvs psnr_hvs_m psnrhvsm float_psnr
        apsnr apsnr_y xpsnr xpsnr_y wxpsnr wpsnr ws_psnr wspsnr s_psnr spsnr cpp_psnr psnr_b psnrb ypsnr y_psnr
        Y-PSNR PSNR_Y APSNR_Y avg_psnr psnr256 peak_snr peak_signal_to_noise_ratio PeakSNR mse mse_y mse_avg rmse
        RMSE nrmse mae l1 l2 msad msad_y MSAD_Y sad sse ssd snr wsnr vsnr ansnr float_ansnr anpsnr float_anpsnr
        mad delta_y Delta_Y nqm""",
    ),
    ((ERROR, COLOUR), "psnr_cb psnr_cr psnr_u psnr_v psnr_hvs_cb psnr_hvs_cr xpsnr_u xpsnr_v mse_u mse_v upsnr vpsnr"),
    ((ERROR, COLOUR), "msad_u msad_v u_psnr v_psnr U-PSNR mse_cb psnr_chroma"),
    ((ERROR, TIME), "psnr_y_p10 psnr_std mse_p90"),
    (
        (STRUCTURE,),
        """ssim ssim_y ssim_avg ssim_all SSIM_Y float_ssim ms_ssim float_ms_ssim MS-SSIM msssim MSSSIM_Y mssim
        iw_ssim iwssim cw_ssim cwssim ssimc ssim_db dssim fsim fsimc gmsd ms_gmsd haarpsi 3SSIM_Y 3ssim stSSIM_Y
        stssim issim iSSIM_Y ssimplus ssim_plus essim vsi mdsi srsim sr_sim rfsim uqi uiq ws_ssim wsssim g_ssim
        mssim_mean nlpd rred srred scc erqa""",
    ),
    ((STRUCTURE, COLOUR), "ssim_u ssim_v ssim_cb ssim_cr"),
    ((STRUCTURE, TIME), "strred st_rred trred ssim_p5 ms_ssim_std greed st_greed st-greed"),
    (
        (TEXTURE,),
        """ssimulacra ssimulacra2 ssimulacra1 butteraugli butteraugli_3norm butteraugli_pnorm lpips lpips_alex
        lpips-vgg lpips_vgg stlpips st_lpips lpips+ dists adists a_dists vgg vgg19 vgg_loss pieapp ahiq ckdn
        deepdc wadiqam_fr topiq_fr cvvdp colorvideovdp cvvdp_jod fvvdp fovvideovdp fvvdp_jod vdp fid kid fvd
        inception_score deepvqa c3dvqa deepwsd flolpips flip texture texture_energy glcm_energy glcm_homogeneity
        gabor_energy lbp_uniformity vqm vqm_vfd VQM_Y dmm fgresq movie_index tmovie smovie vis3 stmad st_mad
        compressed_vqm""",
    ),
    ((TEXTURE, DISPLAY), "hdrvdp hdrvdp2 hdrvdp3 hdr_vdp_3 hdr-vdp hdrvqm hdr_vqm"),
    ((TEXTURE, TIME), "lpips_p90 ssimulacra2_std"),
    (
        (COLOUR,),
        """ciede ciede2000 ciede2000_mean delta_e delta_e_itp deltae deltae2000 DeltaE delta_itp deltaitp ictcp
        speed_chroma speed_chroma_u chroma chroma_subsampling cb_mean cr_mean primaries color_primaries
        colour_primaries color_space colorspace color_range color_matrix color_count colorfulness colourfulness
        colorfullness saturation sat_avg hue hue_mean chromatic_aberration cid msswd gamut
        white_balance color_temperature UAVG VAVG UMIN UMAX VMIN VMAX ULOW UHIGH VLOW VHIGH SATAVG SATMIN SATMAX
        SATLOW SATHIGH HUEMED HUEAVG lavfi.signalstats.SATAVG bt709 chroma_mean""",
    ),
    ((COLOUR, TIME), "UDIF VDIF ciede2000_std ciede2000_p95"),
    ((COLOUR, BANDING), "color_transfer color_trc color_banding"),
    # --- banding and tone
    (
        (BANDING,),
        """cambi cambi_mean cambi_full_reference cambi_source Cambi_feature_cambi_score band banding
        banding_score banding_index bband dbi deband contouring false_contours pq hlg smpte2084 st2084 gamma
        tone_mapping tonemap tonemapping tone_curve tmqi tmo transfer transfer_characteristics trc maxcll max_cll
        MaxCLL maxfall max_fall MaxFALL clipping clipped clipped_highlights highlight_clipping overexposed
        underexposed over_exposure exposure contrast rms_contrast dynamic_range BRNG lavfi.signalstats.BRNG""",
    ),
    ((BANDING, TIME), "cambi_p95 cambi_std"),
    ((BANDING, DISPLAY), "hdr_clipping hdr_pq peak_clipping contrast_ratio_display"),
    # --- time
    (
        (TIME,),
        """camera_motion ego_motion slow_motion global_motion local_motion object_motion motion_vector motion_vectors mv mv_mean
        mean_mv_magnitude motion_intensity motion_magnitude motion_smoothness motion_energy Av_Motion Av_MotionDif
        Av_MotionX Av_MotionY StdDev_Motion StdDev_MotionX mean_Av_Motion std_Av_Motion optical_flow
        optical_flow_mean flow_magnitude raft_flow warping_error speed_temporal speed_temporal_p90 temporal
        temporal_information temporal_complexity TemporalComplexety ti ti_mean TI TI_910 TI_Mot lavfi.siti.ti
        flicker flickering flicking flicker_index shot shots n_shots shot_count transnet transnet_v2_shots
        transnetv2 scene scene_count scene_score scene_change scenes scenecut scene_cuts n_cuts scd scdet_score
        mafd lavfi.scd.mafd lavfi.scene_score YDIF lavfi.signalstats.YDIF frame_diff frame_difference tdiff judder
        jerk jerkiness jitter stutter stutters stall_count stalls stalling n_stalls stall_duration stalling_ratio
        total_stall_time freeze freeze_count freezes n_freezes frozen_frames lavfi.freezedetect.freeze_duration
        rebuffer rebuffer_count rebuffering rebuffering_duration rebuffering_ratio buffering_time initial_buffering
        drop_frame dropped_frames drop_frames n_dropped duplicate_frames dup_frames repeated_frames camera_shake
        shakiness jello stability frame_pacing vfr_ratio vfr noticeable_flicker temporal_flicker
        speed_qa speedqa motion_uniformity tempo_consistency temporal_consistency""",
    ),
    ((TIME, NOISE), "motion_blur temporal_noise"),
    # --- where people look
    (
        (SALIENCY,),
        """saliency saliency_mean saliency_var salient_area salient_ratio mobilesal mobilesal_mean u2net u2net_mean
        U2Net roi roi_area roi_ratio roi_bitmap attention attention_map_entropy mask mask_area mask_ratio fixation
        fixation_density fixations gaze gaze_entropy eye_tracking foveation face_count faces n_faces face_area
        center_bias unisal deepgaze birefnet isnet basnet""",
    ),
    ((SALIENCY, ERROR), "roi_psnr saliency_weighted_psnr"),
    ((SALIENCY, FR), "roi_vmaf"),
    # --- display
    (
        (DISPLAY,),
        """hdr is_hdr hdr10 hdr_format hdr10plus dolby_vision dv_profile dovi bitdepth bit_depth BitDepth
        YBITDEPTH bits_per_raw_sample bits_per_sample pix_fmt pixfmt pixel_format PixelFormat eotf bt2020 bt2100
        rec2020 luminance luminance_mean max_luminance luma luma_mean brightness brightness_mean nits max_nits
        maxNits min_nits panel panel_size display display_size display_nits display_resolution screen_size
        screen_height_cm device device_type monitor viewing_distance viewing_condition ppd pixels_per_degree dpi
        ppi mastering mastering_max mastering_display peak peak_luminance peak_nits ambient_light ambient_lux sdr
        is_sdr sdr_white wcg YAVG YMIN YMAX YLOW YHIGH lavfi.signalstats.YAVG hdrmax cd_m2""",
    ),
    ((DISPLAY, ERROR), "hdr_psnr pu_psnr pu21_psnr"),
    ((DISPLAY, STRUCTURE), "pu21_ssim pu_ssim"),
    # --- source
    (
        (SOURCE,),
        """width height src_width src_height coded_width coded_height resolution source_resolution duration
        duration_s duration_seconds format_duration clip_duration framerate frame_rate r_frame_rate avg_frame_rate
        fps src_fps nb_frames nb_read_frames n_frames num_frames frame_count total_frames orientation rotation
        rotate aspect_ratio display_aspect_ratio sample_aspect_ratio dar sar category category_id_num ugc_category
        genre content_type content_class scene_category scene_type scene_class si si_mean SI SI_910 lavfi.siti.si
        spatial_information spatial_complexity SpatialComplexety complexity content_complexity entropy
        normalized_entropy lavfi.entropy.normalized_entropy.normal.Y megapixels pixel_count letterbox pillarbox
        black_border BlackBorder crop_top cropped upscaled upscale_factor scale_factor downscale interlaced
        is_interlaced progressive field_order scan_type idet_interlaced lavfi.idet.multiple.interlaced animation
        is_animation gaming portrait is_portrait landscape is_vertical screen_content natural_content
        float_moment_ref1st moment_dis2nd""",
    ),
    # --- codecs
    (
        (CODEC,),
        """codec codec_name codec_tag video_codec encoder encoder_version encoder_speed preset preset_num speed_preset
        crf crf_value cq cq_level cqp qp qp_mean avg_qp qp_i qp_min qpmin Av_QP Av_QPBB StdDev_QP StdDev_QPBB min_QP
        max_QP InitialQP MbQPs mean_qpbb_non_i_0_sec iqr_Av_QP qscale qcomp qstep quantizer quantiser quant_step
        base_q_idx bitrate bit_rate bitrate_kbps video_bitrate target_bitrate peak_bitrate avg_bitrate bits_per_pixel
        bpp bits_per_frame maxrate max_rate minrate bufsize vbv_bufsize vbv_maxrate rate_control rc_mode rc_lookahead
        lookahead cbr vbr abr_ladder gop gop_size gop_length gop_struct keyint keyint_min min_keyint max_keyint
        key_int keyframes keyframe_interval key_frame key_frame_ratio iframes i_frames i_frame_ratio pframes
        b_frames bframes bframe_ratio b_frame_ratio has_b_frames b_adapt b_pyramid refs ref_frames n_ref_frames
        max_num_ref_frames merange me_range me_method subme trellis aq_mode aq_strength spatial_aq temporal_aq psy_rd
        psy_rdoq mbtree weightp cabac cavlc deblock deblocking sao tune tune_psnr tune_film multipass two_pass
        passes tiles tile_columns row_mt cpu_used cpu-used libx264 libx264_crf libx265 libvpx libvpx_vp9 libaom
        libaom_av1 libsvtav1 svtav1 svt_av1 rav1e x264 x264_crf x265 h264 h265 avc avc1 hevc hvc1 vvc vvenc evc av1
        dav1d vp8 vp9 mpeg2 mpeg4 prores mjpeg nvenc nvenc_preset hevc_nvenc qsv amf videotoolbox vaapi hwaccel
        profile level frame_size FrameSize std_FrameSize pkt_size packet_size file_size filesize size_bytes
        compression_ratio encode_time encode_time_s encoding_time encode_fps encode_duration pict_type frame_type
        FrameType slice_type IsIDR is_idr skip_ratio SKIP_mb_ratio intra_ratio inter_ratio MbTypes_0 BlkShapes_3
        TrShapes_1 Av_Coefs HF_LF_ratio AnalyzedMBs PredFrm_Intra bitladder rung ladder_rung rendition container
        format_bit_rate chunk_size segment_bitrate""",
    ),
    # --- opinions and no reference
    (
        (OPINION,),
        """mos MOS mos_j sos_j dmos DMOS mos_raw_0_100 mos_std mos_std_dev mos_n_ratings n_ratings num_ratings rating
        ratings votes n_votes MOSFull MOSChunk00 MOSChunk05 stdFull stdChunk05 subjective_score subject_01
        mean_opinion_score second_opinion_dover_score second_opinion_fork_nr_metric_score brisque brisque_score
        brisque_matlab BRISQUE_12 niqe niqe_matlab NIQE_Y ilniqe piqe nrqm pi cnniqa dbcnn dover dover_score
        cover cover_score cover_semantic aesthetic aesthetic_score technical_score semantic_score
        overall/final_score fused_score q_align qalign qalign_score qalign_4bit q-align qrealign fast_vqa fastvqa
        faster_vqa fastervqa fast-vqa musiq musiq_spaq musiq-koniq mean_musiq clip_iqa clipiqa clipiqa+
        clipiqa+_vitL14_512 maniqa maniqa-pipal nima nima-vgg16-ava hyperiqa topiq topiq_nr topiq_iaa topiq_nr-face
        liqe liqe_mix paq2piq tres tres-flive unique uranker wadiqam_nr arniqa arniqa-spaq laion_aes compare2score
        qualiclip maclip afine_nr deqa deqa_score q_insight visualquality_r1 clipscore vsfa mdtvsfa tlvqm cnn_tlvqm
        rapique rapique_3 videval videval_00 uvq uvq1p5 uvq_compression uvq_content_distortion viideo v_bliinds
        vbliinds bliinds diivine friquee higrade chipqa faver gamival patchvq pvq simplevqa bvqi bvqi_local kvq
        ksvqe maxvqa finevq modularbvqa modular_bvqa rqvqa sama vqa2 lmm_vqa ptmvqa zoomvqa discovqa conviqt
        contrique reiqa re_iqa nofu ndnetgaming videoscore vbench p1203 p1203_o46 p1204 p1204_3 P.1204.3 p1204_score
        itu_p1203 avqbits avqbits_m3 O46 O22 nss mscn_variance nferm vqascore hosa cornia gmlog""",
    ),
    ((OPINION, DISPLAY), "hdrchipqa hdr_chipqa"),
    # --- noise, blur and artefacts
    (
        (NOISE,),
        """noise noise_sigma noise_estimate noise_level noisiness sigma_noise denoise denoise_strength grain
        film_grain film_grain_strength film_grain_synthesis blur blur_score blurriness blurring lavfi.blur blur_mean
        defocus out_of_focus sharp sharpness sharpness_laplacian edge edge_density edge_energy edges edge_width
        laplacian laplacian_var laplacian_variance var_of_laplacian tenengrad sobel_mean blockiness blocking
        block_artifacts lavfi.block blockdetect ringing ringing_score mosquito_noise mosquito artifact artifacts
        artefacts compression_artifacts aliasing moire cpbd jnb acutance mtf50 shot_noise TOUT VREP
        lavfi.signalstats.TOUT MSU_Blurring MSU_Blocking Noise_estimation haze""",
    ),
    # --- what looks like one of them, and is none
    (
        (),
        """clip_number clip unit units admin vifs2_unknown community grid video name_length shape skin_tone
        subband_energy bandwidth bandwidth_kbps network_bandwidth sub_band_3 transfer_time transfer_bytes
        zero_shot_accuracy few_shot si_sdr si_snr fine_tune_epoch fine_tuned epochs loss accuracy gpu_memory
        peak_memory peak_rss peak_memory_mb edge_latency edge_server scenario scenery masking_tape
        coverage cloud_cover cost_usd weight temperature latitude longitude n_unique unique_users views likes
        comments price inference_fps decode_fps uploads year month recording_time operating_system population
        crop_yield rank_pct display_order peak_viewers horizontal_flip flow_bytes cash_flow dataset_version age sex""",
    ),
]

NAMES: dict[str, frozenset[str]] = {
    name: frozenset(families) for families, names in LISTS for name in names.split()
}
