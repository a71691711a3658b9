"""The model that edits: the published recipe, in files that diffusers opens, through the one training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file

from synthimg.config import Config, Finetune
from synthimg.data import pairs
from synthimg.diffusion import base, edits
from synthimg.diffusion.train import training_loop
from synthimg.errors import UserError
from synthimg.reading import parse
from synthimg.stages.finetune import finetune_model
from synthimg.stages.prepare import prepare_dataset

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("edits")
    tiny.photographs(place / "data", rare=12, common=16)
    tiny.sd15(place / "base")
    return place


@pytest.fixture
def pipeline(place: Path) -> Any:
    return base.load(str(place / "base"), CPU)


@pytest.fixture(scope="module")
def lessons(place: Path) -> edits.Lessons:
    return edits.lessons(base.load(str(place / "base"), CPU), pairs.of_scenes(12, 64, 0), True, place / "cache")


def configured(place: Path, outputs: Path, **finetune: Any) -> Config:
    tree = tiny.settings(place / "data", outputs, place / "base")
    counts = {"procedural": 4, "scenes": 4}
    tree["finetune"] |= {
        "steps": 1,
        "controlnet_steps": 1,
        "edits": counts,
        "edit_steps": 3,
        "precision": "fp32",
        **finetune,
    }
    return parse(tree)


def diffusers_pipeline(place: Path, unet: Any) -> Any:
    found = StableDiffusionInstructPix2PixPipeline.from_pretrained(place / "base", unet=unet, safety_checker=None)
    found.set_progress_bar_config(disable=True)
    return found


def predictions(pipe: Any, picture: np.ndarray, text: str, noise: torch.Tensor, **guidance: float) -> list[torch.Tensor]:
    """One step of the denoiser in diffusers' pipeline: latents with the start's, timestep, prediction."""
    seen: list[torch.Tensor] = []

    def watch(_: Any, args: tuple[Any, ...], __: Any, output: Any) -> None:
        seen.extend([args[0].clone(), torch.as_tensor(args[1]), output[0].clone()])

    hook = pipe.unet.register_forward_hook(watch, with_kwargs=True)
    given = {"guidance_scale": 1.0, "image_guidance_scale": 1.0, **guidance}
    pipe(text, image=Image.fromarray(picture), latents=noise, num_inference_steps=1, output_type="latent", **given)
    hook.remove()
    return seen[:3]


def shaken(unet: Any) -> Any:
    """The UNet with weights in the new channels, as if it had been trained."""
    with torch.no_grad():
        torch.manual_seed(3)
        unet.conv_in.weight[:, 4:] = 0.1 * torch.randn_like(unet.conv_in.weight[:, 4:])
    return unet


def test_a_widened_denoiser_draws_as_before_whatever_the_start_image(pipeline: Any) -> None:
    x, starts, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([3, 700])
    prompts = base.encode_prompts(pipeline, ["add cracks", ""])
    with torch.no_grad():
        before = pipeline.unet(x, t, prompts.hidden, return_dict=False)[0]
        edits.widen(pipeline.unet)
        after = edits.predict(pipeline.unet, x, t, prompts, starts)
    assert pipeline.unet.config.in_channels == 8
    torch.testing.assert_close(after, before)


def test_one_noise_prediction_is_that_of_diffusers_pipeline(place: Path, pipeline: Any) -> None:
    edits.widen(pipeline.unet)
    unet = shaken(pipeline.unet)
    made = pairs.of_scenes(3, 64, 1)
    taught = edits.lessons(pipeline, made, False, place / "cache")
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    given, t, expected = predictions(diffusers_pipeline(place, unet), made.before[0], made.texts[0], noise)
    assert given.shape == (1, 8, 8, 8)
    torch.testing.assert_close(given[:, 4:], taught.starts[:1, 0], rtol=1e-5, atol=1e-5)
    prompts = taught.prompts.rows(taught.prompt_of[:1])
    with torch.no_grad():
        found = edits.predict(unet, given[:, :4], t, prompts, taught.starts[:1, 0])
        other = edits.predict(unet, given[:, :4], t, prompts, torch.zeros(1, 4, 8, 8))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (other - expected).abs().max() > 1e-3  # the start image is looked at


def test_start_latents_are_the_mode_unscaled_of_both_views(pipeline: Any, lessons: edits.Lessons) -> None:
    before = pairs.of_scenes(12, 64, 0).before
    for view, picture in enumerate((before[4], before[4][:, ::-1])):
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        mode = pipeline.vae.encode(x).latent_dist.mode()[0]
        torch.testing.assert_close(lessons.starts[4, view], mode, rtol=1e-4, atol=1e-5)
    assert lessons.starts.shape == (12, 2, 4, 8, 8) and lessons.moments.shape == (12, 2, 8, 8, 8)


def test_text_image_and_both_are_dropped_for_a_twentieth_each(lessons: edits.Lessons) -> None:
    latents, starts, prompts = edits.draw(lessons, 8000, 7, CPU)
    blind = (starts == 0).flatten(1).all(1)
    silent = (prompts.hidden == lessons.prompts.hidden[0]).flatten(1).all(1)
    shares = [(silent & ~blind), (blind & ~silent), (silent & blind)]
    assert all(0.04 < share.float().mean() < 0.06 for share in shares)
    assert latents.shape == (8000, 4, 8, 8)
    again = edits.draw(lessons, 8000, 7, CPU)
    assert torch.equal(again[0], latents) and torch.equal(again[1], starts)


def test_both_pictures_of_a_pair_are_mirrored_together(lessons: edits.Lessons) -> None:
    """Every drawn start latent belongs to the very view of the pair whose picture after is drawn."""
    still = lessons._replace(moments=torch.cat([lessons.starts, torch.zeros_like(lessons.starts)], 2))
    latents, starts, _ = edits.draw(still, 200, 3, CPU)
    seen = (starts != 0).flatten(1).any(1)
    assert seen.sum() > 150 and torch.equal(latents[seen], starts[seen])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_saved_opens_in_diffusers_pipeline(place: Path, tmp_path: Path, method: str) -> None:
    config = configured(place, tmp_path, method=method)
    prepare_dataset(config)
    folder = finetune_model(config) / "edit"
    own = base.load(str(place / "base"), CPU)
    if method == "full":
        unet = UNet2DConditionModel.from_pretrained(folder / "unet")
        pipe = diffusers_pipeline(place, unet)
    else:
        assert {path.name for path in folder.iterdir()} == {"pytorch_lora_weights.safetensors", "conv_in.safetensors"}
        edits.widen(own.unet)
        own.unet.conv_in.load_state_dict(load_file(folder / "conv_in.safetensors"))
        pipe = diffusers_pipeline(place, own.unet)
        # the edits are learnt on the adapted denoiser
        for name in ("adapter", "edit"):
            pipe.load_lora_weights(folder.parent / name)
            pipe.fuse_lora()
            pipe.unload_lora_weights()
    assert pipe.unet.config.in_channels == 8
    assert pipe.unet.conv_in.weight[:, 4:].abs().max() > 0  # they start at zero: any other value comes from training
    editor = base.load(str(place / "base"), CPU)
    edits.adapt(editor, config.base, folder.parent)
    picture = pairs.of_scenes(1, 64, 2).before[0]
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    given, t, expected = predictions(pipe, picture, "add cracks", noise)
    with torch.no_grad():
        found = edits.predict(editor.unet, given[:, :4], t, base.encode_prompts(editor, ["add cracks"]), given[:, 4:])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    losses = (folder.parent / "loss-edit.csv").read_text().splitlines()
    assert len(losses) == 1 + 3


@pytest.mark.slow
def test_a_resumed_training_is_bit_for_bit_an_unbroken_one(place: Path, lessons: edits.Lessons, tmp_path: Path) -> None:
    settings = Finetune(batch_size=2, checkpoint_every=2, warmup=1, learning_rate=1e-3, rank=4, ema=0.9)

    def train(folder: Path, stop: int | None = None) -> tuple[list[float], list[torch.Tensor]]:
        pipe = base.load(str(place / "base"), CPU)
        edits.begin(pipe, str(place / "base"))
        torch.manual_seed(0)
        edits.attach(pipe, settings)
        accelerator = Accelerator(cpu=True)
        objective = edits.editing(base.training_schedule(pipe.scheduler), lessons, settings, accelerator)
        losses = []
        for step in training_loop(pipe.unet, objective, settings, 5, settings.learning_rate, folder, 7, accelerator):
            losses.append(step.loss)
            if step.number == stop:
                break
        return losses, [parameter.detach() for parameter in pipe.unet.parameters() if parameter.requires_grad]

    whole, expected = train(tmp_path / "whole")
    train(tmp_path / "broken", stop=3)
    rest, found = train(tmp_path / "broken")
    assert rest == whole[2:]
    assert any(tensor.shape[1:] == (8, 3, 3) for tensor in found)  # the first convolution is trained in full
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_fine_tuning_begins_where_the_bases_own_editor_ended(place: Path, tmp_path: Path) -> None:
    pipe, settings = base.load(str(tiny.sd15(tmp_path / "base")), CPU), Finetune(method="lora", rank=4)
    edits.begin(pipe, str(tmp_path / "base"))
    edits.attach(pipe, settings)
    shaken(pipe.unet)
    before = base.digest(str(tmp_path / "base"))
    edits.save(pipe, settings, tmp_path / "base" / "edit")
    assert base.digest(str(tmp_path / "base")) != before  # a base that can edit is another base
    again = base.load(str(tmp_path / "base"), CPU)
    assert again.unet.config.in_channels == 4  # it still draws from noise alone
    edits.begin(again, str(tmp_path / "base"))
    assert torch.equal(again.unet.conv_in.weight, pipe.unet.conv_in.weight)


def test_sdxl_is_refused_by_its_name(place: Path, tmp_path: Path) -> None:
    config = configured(place, tmp_path / "out").model_copy(update={"base": str(tiny.sdxl(tmp_path / "xl"))})
    prepare_dataset(config)
    with pytest.raises(UserError, match=r"finetune\.edits: base '.*xl' is Stable Diffusion XL; editing needs"):
        finetune_model(config)
    assert not (config.folder / "finetune" / "adapter").exists()  # before hours of training
