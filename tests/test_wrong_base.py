"""Whatever is named as a base and is none: the message names the cause, before anything is loaded or fetched."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from synthimg.diffusion import base, kinds
from synthimg.errors import UserError

FILES = {
    "lora_unet_down_blocks_0_proj.lora_up.weight": "a LoRA, an adapter",
    "unet.down_blocks.0.attn.to_q.lora_A.weight": "a LoRA, an adapter",
    "lora_unet_down_blocks_0.hada_w1_a": "a LoRA, an adapter",
    "emb_params": "a textual inversion",
    "clip_g": "a textual inversion",
    "control_model.input_blocks.0.0.weight": "a ControlNet",
    "controlnet_cond_embedding.conv_in.weight": "a ControlNet",
    "encoder.conv_in.weight": "an autoencoder .VAE. alone",
    "first_stage_model.decoder.conv_in.weight": "an autoencoder .VAE. alone",
    "down_blocks.0.resnets.0.conv1.weight": "a denoiser .UNet. alone",
    "text_model.embeddings.token_embedding.weight": "a text encoder alone",
    "double_blocks.0.img_attn.qkv.weight": "a diffusion transformer",
    "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": "a diffusion transformer",
    "layer4.1.conv2.weight": "of an unknown architecture, with tensors such as 'layer4",
}


def refused(place):
    with pytest.raises(UserError) as error:
        base.find(str(place))
    return str(error.value)


@pytest.mark.parametrize(("tensor", "kind"), FILES.items())
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path, tensor, kind):
    save_file({tensor: torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=f"is {kind}.*; expected Stable Diffusion"):
        base.load(str(tmp_path / "x.safetensors"), torch.device("cpu"))


def test_files_that_are_no_weights_at_all(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"pickle")
    assert "'.ckpt'; only .safetensors are read" in refused(tmp_path / "x.ckpt")
    (tmp_path / "x.safetensors").write_bytes(b"<!DOCTYPE html>")
    assert "cannot be loaded" in refused(tmp_path / "x.safetensors")
    save_file({}, tmp_path / "none.safetensors")
    assert "without any tensor" in refused(tmp_path / "none.safetensors")


def test_a_model_for_inpainting_reads_too_many_channels(tmp_path):
    for channels, told in ((9, "reads 9 channels, for inpainting"), (4, None)):
        save_file({kinds.FIRST: torch.zeros(8, channels, 3, 3)}, tmp_path / "x.safetensors")
        fault = kinds.fault_of(tmp_path / "x.safetensors")
        assert told in fault if told else fault is None


def test_a_whole_checkpoint_is_none_of_these():
    whole = ["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.encoder.conv_in.weight",
             "cond_stage_model.transformer.text_model.embeddings.position_ids"]  # fmt: skip
    assert kinds.kind_of(whole) is None
    assert kinds.fault_of(base.EMBEDDED) is None


@pytest.fixture
def folder(tmp_path):
    """The embedded base, with files of no bytes for its weights: they are not opened."""
    for file in (file for file in base.EMBEDDED.rglob("*") if file.is_file()):
        copy = tmp_path / "base" / file.relative_to(base.EMBEDDED)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch() if file.suffix == ".safetensors" else shutil.copy(file, copy)
    return tmp_path / "base"


def test_a_folder_with_one_variant_alone_names_it(folder):
    for file in list(folder.rglob("*.safetensors")):
        file.rename(file.with_suffix(".fp16.safetensors"))
    for _ in range(2):  # with and without the index, whose files are gone
        assert "holds the variant fp16 alone, such as unet/" in refused(folder)
        (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").unlink(missing_ok=True)
    shutil.copytree(base.EMBEDDED / "unet", folder / "unet", dirs_exist_ok=True)
    assert "such as vae/diffusion_pytorch_model.fp16.safetensors" in refused(folder)


@pytest.mark.parametrize(("change", "message"), [
    (lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").unlink(), "has no .safetensors in vae/"),
    (lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").rename(f / "vae" / "x.bin"), "only x.bin, which is not"),
    (lambda f: next((f / "unet").glob("*00001*")).unlink(), "index.json names diffusion_pytorch_model-00001-of-00002.safet"),
    (lambda f: shutil.rmtree(f / "text_encoder"), "names text_encoder, and there is no such folder"),
    (lambda f: (f / "model_index.json").write_text("{"), "model_index.json cannot be read"),
    (lambda f: (f / "model_index.json").write_text("[]"), "model_index.json cannot be read"),
    (lambda f: (f / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"})), "is a FluxPipeline; exp"),
    (lambda f: (f / "model_index.json").unlink(), "no model_index.json"),
])  # fmt: skip
def test_a_folder_that_lacks_something_says_what(folder, change, message):
    assert kinds.fault_of(folder) is None
    change(folder)
    assert message in refused(folder)


def test_folders_without_an_index_say_what_they_hold(tmp_path):
    (tmp_path / "none").mkdir()
    assert "It is empty" in refused(tmp_path / "none")
    for name, told in (("pytorch_lora_weights.safetensors", "holds a LoRA"), ("v1-5.safetensors", "name that one")):
        (tmp_path / name.split(".")[0]).mkdir()
        (tmp_path / name.split(".")[0] / name).touch()
        assert told in refused(tmp_path / name.split(".")[0])
    assert "holds one part of a base alone" in refused(base.EMBEDDED / "vae")
