"""Operations and bytes of every stage, and which limit of a machine binds.

Operations are those of matrix products, a multiply-add counted as two; element-wise work is cheap
in arithmetic and dear in traffic, so it shows in the bytes. Bytes are those of a machine without a
cache: every operator reads its inputs and writes its output once. A cache makes them fewer, so the
memory's time is an upper limit and the arithmetic's a lower one.

Reference: Williams, Waterman, Patterson, "Roofline: An Insightful Visual Performance Model for
Multicore Architectures", Communications of the ACM 2009.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

ADAPTED = 4  # square projections a block that LoRA goes on: query, key, value, output
SINGLE, DOUBLE, INDEX = 4, 8, 8  # bytes


@dataclass(frozen=True)
class Work:
    """What a stage does: floating-point operations and bytes moved."""

    operations: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.operations + other.operations, self.bytes + other.bytes)

    def __mul__(self, times: float) -> "Work":
        return Work(self.operations * times, self.bytes * times)


@dataclass(frozen=True)
class Machine:
    """Measured peaks: 10^9 operations a second in single and double precision, 10^9 bytes."""

    gflops: float
    gflops_double: float
    gbytes: float


def bound(work: Work, machine: Machine, *, double: bool = False) -> dict[str, Any]:
    """Give the binding limit, the least seconds it allows, and both numbers of the work."""
    arithmetic = work.operations / 1e9 / (machine.gflops_double if double else machine.gflops)
    memory = work.bytes / 1e9 / machine.gbytes
    return {
        **asdict(work),
        "limit": "arithmetic" if arithmetic >= memory else "memory",
        "predicted_seconds": max(arithmetic, memory),
    }


@dataclass(frozen=True)
class Vit:
    """A vision transformer on images of one size.

    Args:
        width: Length of a token.
        depth: Blocks.
        hidden: Width inside a block's MLP.
        patches: Patches an image.
        patch_values: Numbers a patch: bands x side^2.
        prefix: Tokens that are no patch: the class token and registers.
    """

    width: int
    depth: int
    hidden: int
    patches: int
    patch_values: int
    prefix: int = 1

    @property
    def tokens(self) -> int:
        """Tokens an image."""
        return self.patches + self.prefix

    @property
    def parameters(self) -> int:
        """Weights of all matrices, without biases, norms and positions."""
        return self.patch_values * self.width + self.depth * _block_weights(self)

    def adapter_parameters(self, rank: int) -> int:
        """Weights of a LoRA on the four square projections of every block."""
        return self.depth * ADAPTED * 2 * self.width * rank

    def seeing(self, patches: int) -> "Vit":
        """The same weights on another number of patches."""
        return replace(self, patches=patches)


def _block_weights(vit: Vit) -> int:
    return 4 * vit.width**2 + 2 * vit.width * vit.hidden


def forward(vit: Vit, images: int, *, rank: int = 0) -> Work:
    """One pass of a batch through the encoder, with a LoRA of this rank beside it (0: none)."""
    return _embedding(vit, images) + _blocks_forward(vit, images) + _adapter_forward(
        vit, images, rank
    )  # fmt: skip


def _embedding(vit: Vit, images: int) -> Work:
    pixels = images * vit.patches * vit.patch_values
    tokens = images * vit.tokens * vit.width
    moved = pixels * 29  # uint8 to float (5), divided, shifted and divided again (8 each)
    moved += SINGLE * (pixels + vit.patch_values * vit.width + 6 * tokens)  # with positions
    return Work(2 * pixels * vit.width, moved)


def _blocks_forward(vit: Vit, images: int) -> Work:
    rows = images * vit.tokens
    x, h = rows * vit.width, rows * vit.hidden
    operations = 2 * rows * _block_weights(vit) + 4 * x * vit.tokens
    # two norms (2 each), three projections (2 each), attention that keeps its scores in the cache
    # (4), output (2), two scaled residuals (5 each), ends of the MLP (1 each), GELU between
    moved = _block_weights(vit) + 28 * x + 4 * h
    return Work(operations, SINGLE * moved) * vit.depth + Work(0, SINGLE * 2 * x)


def _adapter_forward(vit: Vit, images: int, rank: int) -> Work:
    if not rank:
        return Work(0, 0)
    rows, weights = images * vit.tokens, 2 * vit.width * rank
    # down (1 in), up (1 out), scaled (2), added (3)
    moved = weights + 7 * rows * vit.width + 2 * rows * rank
    return Work(2 * rows * weights, SINGLE * moved) * (ADAPTED * vit.depth)


def backward(vit: Vit, images: int, *, rank: int | None) -> Work:
    """Gradients of one batch.

    Args:
        vit: The encoder.
        images: Images in the batch.
        rank: Of the LoRA that learns while all else is frozen; None when all weights learn.
    """
    if rank is None:
        return _through(vit, images, first=ADAPTED + 1) + _all_weights(vit, images)
    return _through(vit, images, first=1) + _adapter_backward(vit, images, rank)


def _through(vit: Vit, images: int, *, first: int) -> Work:
    """Take gradients from the last block to the first.

    Args:
        vit: The encoder.
        images: Images in the batch.
        first: Projections of the first block whose input needs a gradient; where only an adapter
            learns nothing before query, key and value does.
    """
    rows = images * vit.tokens
    x, h = rows * vit.width, rows * vit.hidden
    operations = 2 * rows * _block_weights(vit) + 8 * x * vit.tokens
    moved = _block_weights(vit) + 40 * x + 5 * h
    skipped = 2 * x * vit.width * max(ADAPTED - first, 0)
    return Work(operations, SINGLE * moved) * vit.depth + Work(-skipped, 0)


def _adapter_backward(vit: Vit, images: int, rank: int) -> Work:
    rows, weights = images * vit.tokens, vit.width * rank
    # of both matrices their own gradient and that of their input
    each = Work(8 * rows * weights, SINGLE * (4 * weights + 9 * rows * vit.width + 4 * rows * rank))
    before_first = Work(2 * rows * weights, 0) * (ADAPTED - 1)
    return each * (ADAPTED * vit.depth) + before_first * -1


def _all_weights(vit: Vit, images: int) -> Work:
    rows, weights = images * vit.tokens, _block_weights(vit)
    # inputs and gradients of six matrices (10), sums for their biases (5), two scales (4 each)
    moved = weights + 23 * rows * vit.width + 3 * rows * vit.hidden
    pixels = images * vit.patches * vit.patch_values
    stem = Work(2 * pixels * vit.width, SINGLE * (pixels + vit.patch_values * vit.width))
    return Work(2 * rows * weights, SINGLE * moved) * vit.depth + stem


def optimizer_step(parameters: int) -> Work:
    """AdamW with clipped gradients: four arrays read and three written, and two looks before."""
    return Work(0, SINGLE * 10 * parameters)


def lora_step(vit: Vit, images: int, *, rank: int) -> Work:
    """One step of LoRA, also of stage 5: forward, backward, optimiser."""
    passes = forward(vit, images, rank=rank) + backward(vit, images, rank=rank)
    return passes + optimizer_step(vit.adapter_parameters(rank))


def full_step(vit: Vit, images: int) -> Work:
    """One step in which all weights learn."""
    passes = forward(vit, images) + backward(vit, images, rank=None)
    return passes + optimizer_step(vit.parameters)


def masked_step(vit: Vit, decoder: Vit, images: int, *, seen: float = 0.25) -> Work:
    """One step of a masked autoencoder: the encoder sees a share of the patches.

    Args:
        vit: The encoder on whole images.
        decoder: What rebuilds all patches; its `patch_values` are what it predicts of each.
        images: Images in the batch.
        seen: Share of patches that are not masked.

    Reference: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, on which
    SatMAE builds.
    """
    shown = vit.seeing(int(vit.patches * seen))
    hidden = vit.patches - shown.patches  # embedded, then dropped
    bridge = _matrix(images * shown.tokens, vit.width, decoder.width)
    prediction = _matrix(images * decoder.tokens, decoder.width, decoder.patch_values)
    learnt = vit.parameters + decoder.depth * _block_weights(decoder)
    stem = Work(2 * images * hidden * vit.patch_values * vit.width, 0)
    blocks = _blocks_forward(decoder, images) + _through(decoder, images, first=ADAPTED)
    blocks += _all_weights(decoder, images) + _stem_of(decoder, images) * -1
    passes = forward(shown, images) + backward(shown, images, rank=None)
    return passes + stem * 2 + bridge + prediction + blocks + optimizer_step(learnt)


def momentum_step(vit: Vit, images: int, *, hidden: int = 4096, out: int = 256) -> Work:
    """One step of MoCo-v3: two views learn, two go through the encoder's slow copy.

    Args:
        vit: The encoder.
        images: Images in the batch, each seen twice.
        hidden: Width of projector (three layers) and predictor (two).
        out: What they give.

    Reference: Chen, Xie, He, "An Empirical Study of Training Self-Supervised Vision Transformers",
    ICCV 2021, algorithm 1.
    """
    projector = vit.width * hidden + hidden**2 + hidden * out
    predictor = 2 * out * hidden
    learnt = vit.parameters + projector + predictor
    heads = Work(2 * images * (projector * 4 + predictor * 3), SINGLE * 4 * (projector + predictor))
    view = forward(vit, images) * 2 + backward(vit, images, rank=None) + heads
    slow_copy = Work(0, SINGLE * 3 * (vit.parameters + projector))
    return view * 2 + optimizer_step(learnt) + slow_copy


def _matrix(rows: int, width: int, out: int) -> Work:
    """A linear layer that learns, forward and backward."""
    return Work(6 * rows * width * out, SINGLE * 3 * (rows * (width + out) + width * out))


def _stem_of(vit: Vit, images: int) -> Work:
    pixels = images * vit.patches * vit.patch_values
    return Work(2 * pixels * vit.width, SINGLE * (pixels + vit.patch_values * vit.width))


def lloyd_iteration(samples: int, features: int, clusters: int) -> Work:
    """One iteration of K-means that scores every sample against every centre.

    Products, an offset and a comparison for each pair, a sum over samples. Fewer are scored once
    centres have nearly settled, so a whole run does less.
    """
    pairs = samples * clusters
    operations = 2 * pairs * features + 2 * pairs + samples * features
    moved = SINGLE * (samples + clusters) * features + 2 * samples * (INDEX + SINGLE)
    return Work(operations, moved)


def moving(samples: int, features: int, *, clusters: int, classes: int, moved: int) -> Work:
    """Stages 2-4 of debLoRA without the clustering.

    Args:
        samples: Training samples.
        features: Of each.
        clusters: K.
        classes: C.
        moved: Samples of the classes that move.
    """
    values = samples * features
    # mean (1), spread (3), scaling (2), means of clusters (1), spread within them (3)
    operations = 10 * values + 2 * classes * clusters * features + 3 * moved * features
    return Work(operations, SINGLE * (8 * values + 2 * moved * features) + INDEX * 3 * samples)


def probe_axes(samples: int, features: int) -> Work:
    """What the probe does once, in double precision: covariance, its axes, rotation.

    Reference: Golub, Van Loan, "Matrix Computations", section 8.3: 9 d^3 for all axes.
    """
    operations = 4 * samples * features**2 + 9 * features**3
    return Work(operations, DOUBLE * (8 * samples * features + 3 * features**2))


def probe_evaluation(samples: int, features: int, classes: int) -> Work:
    """One look of L-BFGS at the probe's loss and gradient: logits, softmax, product back."""
    moved = 2 * samples * features + 6 * samples * classes + 2 * features * classes
    return Work(4 * samples * features * classes, SINGLE * moved)


def bootstrap(samples: int, *, replicates: int) -> Work:
    """Resampled confusion matrices of single samples.

    For each sample of each resample: draw, scale, shift, look up, place, count, add to its cell.
    """
    times = samples * replicates
    return Work(8 * times, DOUBLE * 20 * times)
