"""Saliency of clips: the one stage that works clip by clip.

Its modules need the extra `saliency` (NumPy, PyAV, onnxruntime), and are imported only when clips are
measured.
"""
