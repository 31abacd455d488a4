"""ossia: one recommender in the cloud, a version of it made for one person and one device on every device.

    W_user = z · Q( W + Δ ; b )

In a score, an *ossia* is another version of a passage, written for the player who needs it.
"""

__version__ = "0.1.0"
