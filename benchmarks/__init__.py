"""The benchmark suite: joins on large synthetic corpora, side by side with what people use instead.

`python -m benchmarks` runs it; `README.md` beside this file says how to read what it prints. The suite's own
process imports the standard library only: Linux counts the memory of a process that starts another towards
the other's peak, so the process that starts contenders has to be small.
"""
