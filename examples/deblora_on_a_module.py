"""debLoRA on an encoder of your own: any nn.Module that gives one feature vector an image.

python examples/deblora_on_a_module.py
"""

import numpy as np
import torch
from torch import nn

import tailora

torch.manual_seed(0)
rng = np.random.default_rng(0)
labels = np.repeat([0, 1, 2, 3], [120, 50, 10, 4])  # 30 to 1
images = torch.rand(len(labels), 3, 16, 16)
images[:, 0] += torch.from_numpy(labels / 6).float()[:, None, None]  # red tells the class

encoder = nn.Sequential(  # (batch, 3, 16, 16) to (batch, 32); stands for your pretrained one
    nn.Conv2d(3, 16, 4, stride=4), nn.GELU(), nn.Flatten(), nn.Linear(256, 64), nn.GELU(),
    nn.Linear(64, 32),
)  # fmt: skip
method = tailora.DebLoRA(
    rank=4,
    targets=["3", "5"],  # names of the layers to adapt: the two linear ones
    clusters=8,
    pull=0.5,
)
result = method.fit(encoder, images, labels, base_epochs=5)

found = result.calibration
print("clusters hold", found.clusters.sizes, f"samples, purity {found.purity:.2f}")
print("classes moved:", found.moved, "each keeps", found.keep)
with torch.inference_mode():
    predicted = result.head(result.encoder(images)).argmax(1).numpy()
for c in range(4):
    print(f"class {c}: recall {np.mean(predicted[labels == c] == c):.2f} on what it was fitted on")
result.encoder.backbone.print_trainable_parameters()  # a peft.PeftModel: save_pretrained(...) it
