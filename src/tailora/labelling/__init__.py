"""Label images in the browser with active learning: which image to show next, and what is known.

The session is a folder and needs no browser: `tailora.labelling.session.LabellingSession`.
"""
