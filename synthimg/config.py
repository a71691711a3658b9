"""The typed configuration: every key, its type, its default and what it means. reading.py makes one from a YAML file."""

from __future__ import annotations

import itertools
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from .core.files import expanded
from .core.words import Label
from .evaluation.arms import DEFAULT
from .evaluation.names import ArmName, ClassifierName, ControlName, MetricName
from .methods import base

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Day = Annotated[str, BeforeValidator(lambda value: value.isoformat() if isinstance(value, date) else value)]
"""YYYY-MM-DD; YAML reads it as a date where it is not quoted."""


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False, protected_namespaces=()
    )  # fmt: skip


class Consent(Section):
    """What the people or owners of the images allowed. Entries in the table win over the data-set-wide one."""

    use: str = "research"
    """The use this run makes of the images; a record is used only if its scope holds this word or `any`."""
    licence: str | None = None
    """Licence or consent form that covers the whole data set, e.g. `CC BY-NC 4.0`. Needs `scope`."""
    scope: list[str] = []
    """Uses that the data-set-wide licence allows, e.g. [research]."""
    expires: Day | None = None
    """Day (YYYY-MM-DD) after which the data-set-wide entry no longer holds."""
    scope_column: str | None = None
    """Table column with each record's allowed uses, separated by `;`. Empty means: no consent."""
    expires_column: str | None = None
    """Table column with each record's last valid day (YYYY-MM-DD); empty means: `expires`, if given."""


class Split(Section):
    """Shares of the images of every class, in whole groups; they must add up to 1."""

    train: Share = 0.6
    validation: Share = 0.15
    test: Share = 0.25


class Dataset(Section):
    path: str
    """Folder with one sub-folder per class, folder with `metadata.jsonl`, a table (CSV, TSV, Parquet, JSONL),
    or `pypi:elpv-dataset`. `~` is the home folder, as in every key that is a path."""
    table: str | None = None
    """Table inside the folder `path`, e.g. `metadata.csv`. Default: `metadata.jsonl` or `metadata.csv` if there is one."""
    image: str = "{file_name}"
    """How a row names its image, relative to the table's folder, with {column} fields: `images/{image_id}.jpg`. In braces
    stands a column's name as it is, or `{number:04d}` for whole numbers that are filled with zeros. A listed file that is
    not there is looked for with `/` for `\\`, without blanks around its name and in the other Unicode form."""
    mask: str | None = None
    """How a row names its mask (darkest = the background), e.g. `masks/{image_id}_segmentation.png`."""
    label_column: str = "label"
    group: str | None = None
    """What must not straddle splits: patient, lesion, part. A column, or a regular expression with one group in parentheses
    that is searched for in each image's path (of an image folder: below the class's folder): `'^([^_]+)_'` takes `P07` from
    `P07_left.png`. Default: the source's own (module for `pypi:elpv-dataset`), else every image is its own group."""
    attribute_columns: list[str] = []
    """Further columns to keep, beside those the prompts file names: they go into records.parquet and, with `augment`,
    into metadata.jsonl."""
    classes: list[Label] = []
    """Keep only these labels. Default: all."""
    rare_class: Label
    """The label whose recall is to rise."""
    rare_budget: Annotated[int, Field(ge=0)] | None = None
    """Cut the rare class to this many training images, drawn at random; the rest is held in reserve for the `oracle` arm.
    0: none at all, so only methods and arms that need no real rare image remain."""
    rare_groups: Positive | None = None
    """Draw the budget from the images of as few groups as hold it, but at least this many: a first batch of modules,
    the first patients. Groups come in drawn order. Without a budget: all images of so many groups. Default: all
    groups."""
    deployment: dict[str, Annotated[list[Label], Field(min_length=1)]] = {}
    """Where the classifier will be used, by attribute: {type: [poly]}. Validation and test images come from there, real rare
    training images from elsewhere, the other classes' training images from everywhere; the oracle also has the rare images
    from there. The synthetic images are asked for as they are there."""
    prompts: str
    """Caption templates and attribute axes: a file, or the name of one in prompts/ (e.g. `solar-cell`)."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How a photograph becomes square: by one rule that looks at no mask. `crop` keeps the centre, `pad` adds black bars,
    `stretch` changes proportions."""
    fit_loss: Share = 0.1
    """The share of the rare class's objects (by their masks) that `fit` may lose or halve; where it is more, `prepare`
    refuses."""
    duplicates: Share = 0.8
    """Images that show the same thing share a group: their patterns correlate at least so well at the best shift of up to
    6 % of the side, whatever the exposure, and much better than with images of the same kind (data/duplicates.py).
    1: only those whose thumbnails are equal."""
    limit: Annotated[int, Field(ge=20)] | None = None
    """Use at most this many images per class (drawn by seed, whole groups): for trying things out."""
    strict: bool = Field(default=False, exclude=True)
    """Refuse the data set where `prepare` warns of it; also `--strict`. It changes no result, so no run records it."""
    split: Split = Split()
    consent: Consent = Consent()


EditPairs = Literal["procedural", "transplant", "attributes", "scenes"]
Edits = Annotated[dict[EditPairs, Positive], AfterValidator(lambda counts: dict(sorted(counts.items())))]


class Finetune(Section):
    method: Literal["lora", "full"] = "lora"
    controlnet: Literal["mask", "edges"] | None = None
    """Also train a ControlNet on this condition map, after the adapter and through the same loop."""
    steps: Positive = 1000
    """Optimiser steps of the adapter."""
    controlnet_steps: Positive = 1000
    edit_steps: Positive = 1000
    """Optimiser steps of the model that edits."""
    decoder_steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps of the autoencoder's decoder, before the adapter; the encoder stays as it is. For images whose grain
    the base's autoencoder does not know: without it pictures come out smoother than photographs."""
    decoder_learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    batch_size: Positive = 4
    """Images per process and forward pass."""
    accumulate: Positive = 1
    """Forward passes per optimiser step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    warmup: Annotated[int, Field(ge=0)] = 50
    """Steps of linear warm-up; afterwards the rate falls along a cosine to a tenth."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    rank: Positive = 16
    """LoRA rank; alpha equals it."""
    rare_share: Share = 0.4
    """Share of the rare class among the training draws; the other classes share the rest by their size.
    1.0 trains on the rare class alone; less keeps the others as prior (joint training)."""
    drawn: Annotated[int, Field(ge=0)] = 0
    """So many pictures of the method procedural join the rare class's training images, that the model may learn to keep
    what they show: for the method refined."""
    edits: Edits = {}
    """Also train a model that edits images by instructions (InstructPix2Pix), on so many pairs of each kind, as in
    {procedural: 200, attributes: 200}. Instructions come from `edits` of the prompts file.

    procedural, transplant: a training image of another class without and with the object of these methods, either way.
    attributes: a training image in two values of brightness, contrast, warmth, saturation or skin tone.
    scenes: procedural scenes, which need no data set: a defect added or removed, size, tone, light, texture."""
    caption_dropout: Share = 0.1
    """Share of captions emptied, so that guidance has something to lean on."""
    flip: bool = True
    """Mirror half of the draws left to right (both latents are cached)."""
    min_snr_gamma: Annotated[float, Field(gt=0)] | None = None
    """Min-SNR loss weighting (Hang et al., 2023); 5 is usual for epsilon-prediction bases such as SD 1.5."""
    noise_offset: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of the moving average that is saved; 0 saves the raw weights."""
    gradient_checkpointing: bool = False
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the machine has instructions for it, else fp32 (fp16 on old GPUs)."""
    checkpoint_every: Positive = 100
    checkpoint_limit: Positive = 2
    """How many checkpoints are kept."""
    validate_every: Positive = 200
    """Draw the validation images (fixed prompts and seed) every this many steps."""
    tracker: str = "tensorboard"
    """tensorboard, or the name of another tracker that accelerate knows (wandb, mlflow, ...), or none."""


PARTS = "parts"
"""The folder of a run in which its parts lie, where it has several."""
DRAWS = 4
Compile = Literal["auto", "always", "never"]
Defects = Literal["panel", "surface"]


class Generate(Section):
    count: Positive = 200
    """Images to make (before the filter)."""
    axes: list[str] = []
    """Attributes of the prompts file to vary as a balanced grid. Default: all it declares."""
    methods: Annotated[dict[str, Weight], AfterValidator(base.used)] = {"text": 1.0}
    """Relative weights of the ways to make an image; a method that is not named is not used.

    text: text to image. controlnet: the same, on the condition maps of rare training images (needs finetune.controlnet).
    image, from_common: image to image from training images of the rare class, or of the others prompted as the rare one.
    inpaint: the latter, new only within the mask and a margin of 6 % of the side (needs dataset.mask).
    transplant: the masked object of a rare image in the place of a common one's, about its size, in the tone and light of
        its ground; no model draws it (needs dataset.mask).
    procedural: images of the other classes with the `defects` of a random procedural scene; no model draws them. For rare
        classes that look like them: nothing checks that.
    refined: the same, worked over by the model at each `strength` in turn (see `finetune.drawn`).
    edit: images of the other classes, turned into the rare class by an instruction (needs finetune.edits).
    edit_rare: images of the rare class with another value of an attribute, by an instruction (needs finetune.edits).
    Other packages may add methods (docs/extending.md)."""
    defects: Defects = "panel"
    """Methods procedural and refined: panel (cracks and dead areas) or surface (scratches, spots, stains). With
    `dataset.mask`, of several drawings the one is taken that is most like a real object in number, size and contrast."""
    strength: Annotated[list[Share], Field(min_length=1)] = [0.5, 0.65, 0.8]
    """Image to image: how much is made new; the plan cycles through these values."""
    image_guidance: Annotated[float, Field(ge=1)] = 1.5
    """Methods edit and edit_rare: how much a picture is held to its start image. With `guidance` 1 it has no effect."""
    region: Literal["mask", "drawn"] | None = None
    """Method edit: where an image may change. mask: its object (needs dataset.mask); drawn: where the method procedural
    would draw its `defects`; both with a margin of 6 % of the side. Default: everywhere."""
    detail: Share = 0.0
    """Image to image and edits: how much of what the autoencoder loses of the start image (grain, thinnest lines) is added
    back."""
    steps: Positive = 20
    """Solver steps."""
    guidance: Annotated[float, Field(ge=1)] = 3.0
    batch_size: Positive = 8


class Filter(Section):
    confidence: Share = 0.5
    """Least probability of the rare class, by a balanced classifier trained on the training split only. Asked of
    what a model drew, not of transplants and procedural defects."""
    attributes: bool = True
    """Refuse a picture whose measured attributes are not those it was asked for."""
    copy_quantile: Share = 0.01
    """A picture closer to a training image than this quantile of held-out real images are is a near-copy."""


class Evaluate(Section):
    seeds: Positive | None = None
    """Classifiers of each arm, in every part. Default: 5 on one split, 1 with folds."""
    classifier: ClassifierName = "head"
    """head: linear head on frozen ImageNet features; finetune: the whole backbone is trained; module:function: a classifier
    of your own (docs/extending.md)."""
    steps: Positive = 400
    """Optimiser steps of every arm's classifier where the backbone is fine-tuned; the head is brought to its optimum."""
    batch_size: Positive = 64
    """Where the backbone is fine-tuned."""
    synthetic_weight: Annotated[float, Field(gt=0, le=1)] = 0.2
    """How much a synthetic image counts in training beside a real one."""
    beside: ControlName = "real"
    """The control whose training set and treatment of imbalance the synthetic images, and the oracle's, join; of `arms`."""
    choose: bool = False
    """Choose inside each part's training groups, by inner cross-validation with linear heads, the control to compare with
    and how synthetic images are used: none, those of which methods, at which weight, beside which control. The two chosen
    ones are compared. Arms with RandAugment cannot be chosen. `synthetic_weight` is one of the weights tried, and `beside`
    serves where the chosen control can take no images, or too few rare ones are there to choose by."""
    specificity: Annotated[float, Field(gt=0, lt=1)] = 0.95
    bootstrap: Positive = 2000
    portions: bool = True
    """Also train the synthetic arm with fewer of the images, and without those of each attribute value and method: which of
    them help? A dozen classifiers a seed more; switch it off where the backbone is fine-tuned and time is short."""
    subgroups: list[tuple[str, str]] = []
    """Pairs of attributes, such as [[type, brightness]], by whose combinations recall is also reported; it is so by every
    single attribute in any case."""
    prevalence: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the rare class where the classifier will work, such as 0.001: tells how many false alarms a find costs."""
    arms: list[ArmName] = list(DEFAULT)
    """What the classifier trains on and how it meets imbalance; all but synthetic and oracle are controls. `distance`,
    `patches` and `outlier` (both) have no classifier but measure how far an image is from the ordinary ones;
    `<control>+distance` averages that with the control's classifier, likewise with the other two. Arms that installed
    packages add have to be named, and are not in the default. (smote works on features, so it goes with the head only.)"""
    metrics: list[MetricName] = []
    """Further scores of the accepted images, by installed packages (docs/extending.md)."""
    extractor: Literal["auto", "inception", "efficientnet-lite0"] = "auto"
    """Features of FID and KID. auto: Inception where its weights are at hand, else EfficientNet-Lite0."""
    inception_weights: str | None = None
    """Local file with torch-fidelity's Inception weights."""


class Part(Section):
    """One fold, with one draw of the rare training images."""

    fold: Annotated[int, Field(ge=0)] = 0
    draw: Annotated[int, Field(ge=0)] = 0


class Config(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the run; its results lie in <outputs>/<name>."""
    outputs: str = "outputs"
    seed: int = 0
    """Root seed; every image, split and classifier derives its own from it by name."""
    base: str = "embedded"
    """embedded, a diffusers folder, a .safetensors checkpoint, or a hub id."""
    resolution: Annotated[int, Field(ge=32, multiple_of=8)] = 128
    folds: Positive = 5
    """Cross-validation by group: the groups go into so many folds, and each fold is tested once by models, filters,
    thresholds and classifiers that never saw it. 1: one split by `dataset.split`, for data with thousands of rare test
    images. Else 3 or more: a fold for the test, one for the thresholds, the others for training."""
    draws: Positive | None = None
    """How often the rare training images of a fold are drawn anew. Default: 4 with folds, a `dataset.rare_budget` above 0 or
    `rare_groups` and no method that draws with a model; else 1."""
    part: Part | Literal["final"] | None = None
    """Work on this part alone, `part.fold=2 part.draw=0`, as on several machines; the evaluation pools all parts. `final`:
    the model and images of all groups, which nothing is left to test; `synthimg augment` takes these."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    compile: Compile = "auto"
    """Compile the denoiser (torch.compile). auto: on an NVIDIA GPU, where so many images are trained on or drawn that the
    minute it takes is won back."""
    dataset: Dataset
    finetune: Finetune = Finetune()
    generate: Generate = Generate()
    filter: Filter = Filter()
    evaluate: Evaluate = Evaluate()

    @property
    def root(self) -> Path:
        """The run's folder."""
        return expanded(self.outputs) / self.name

    @property
    def folder(self) -> Path:
        """Where the stages' work lies: in the run's folder, or in that of the part."""
        if self.part is None:
            return self.root
        return self.root / PARTS / (self.part if self.part == "final" else f"fold{self.part.fold}-draw{self.part.draw}")

    @property
    def whole(self) -> Config:
        """The configuration of the run itself, whichever part this one is of."""
        return self.model_copy(update={"part": None})

    @property
    def parts(self) -> list[Config]:
        """The configuration of each part, draw by draw; only itself for a part, or a run that has no others."""
        if self.part or (self.folds == 1 and self.redraws == 1):
            return [self]
        both = itertools.product(range(self.redraws), range(self.folds))
        return [self.model_copy(update={"part": Part(fold=fold, draw=draw)}) for draw, fold in both]

    @property
    def redraws(self) -> int:
        """How many draws of the rare training images there are."""
        budget, groups = self.dataset.rare_budget, self.dataset.rare_groups
        cut = budget != 0 and not (budget is None and groups is None)  # of none, all draws are alike
        return self.draws or (DRAWS if self.folds > 1 and cut and not self.draws_with_model else 1)

    @property
    def trainings(self) -> int:
        """How many classifiers each arm has in every part."""
        return self.evaluate.seeds or (5 if self.folds == 1 else 1)

    @property
    def draws_with_model(self) -> bool:
        """Whether a model draws any of the images."""
        methods = set(self.generate.methods)
        return bool(methods - base.composed(methods))
