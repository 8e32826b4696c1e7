"""What updates and models leak, and what stops it.

:mod:`~fedtutor.privacy.reconstruction` (an image from an update),
:mod:`~fedtutor.privacy.membership` (was this patient in the training set?),
:mod:`~fedtutor.privacy.differential` (clipping, noise and ε),
:mod:`~fedtutor.privacy.secure_sum` (the sum and nothing else).
"""
