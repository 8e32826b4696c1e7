"""What updates and models leak, and what stops it.

:mod:`~fedtutor.topics.privacy.reconstruction` (an image from an update),
:mod:`~fedtutor.topics.privacy.membership` (was this patient in the training set?),
:mod:`~fedtutor.topics.privacy.differential` (clipping, noise and ε),
:mod:`~fedtutor.topics.privacy.secure_sum` (the sum and nothing else).
"""
