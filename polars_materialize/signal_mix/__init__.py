"""The signal-mix audit: which signal families a table covers, and how its columns relate.

`audit.audit_signals` takes frames, `files.audit_tables` files. Below them, each module does one job:
`options` and `families` say what is asked, `columns` what each column is to the audit, `values` reads
numbers in batches, `moments` and `ranks` make statistics of them, `findings` and `clusters` draw
conclusions, `reports` holds them, `baseline` compares two reports, `markdown`, `html` and `pictures` show
them.
"""
