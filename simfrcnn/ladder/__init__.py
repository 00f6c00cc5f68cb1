"""Variants of a model over several seeds, on the same cases, in one table.

``plan`` (the ladder file and its runs), ``folders`` (what a run has left on the disk),
``processes`` (runs side by side), ``results`` (figures and paired differences), ``tables``
(intervals and verdicts, also of a published ladder), ``scores`` (of every case), ``report`` and
``figures``.
"""
