"""Augmentations of event streams: chains of steps with the released strengths, and event CutMix.

chains     a whole chain for streams of channels or of pixels, `SHD`, `SSC`, `DVS`
steps      what is done to channels and to time
pixels     what is done to addresses of pixels
cutmix     two streams become one
streams    what a stream is, and its checks
"""

from eventbook.models.event_ssm.augmentation.chains import (
    DVS,
    SHD,
    SSC,
    ChannelAugmentation,
    PixelAugmentation,
)
from eventbook.models.event_ssm.augmentation.cutmix import Mixed, cutmix_batch, cutmix_events

__all__ = [
    "DVS",
    "SHD",
    "SSC",
    "ChannelAugmentation",
    "Mixed",
    "PixelAugmentation",
    "cutmix_batch",
    "cutmix_events",
]
