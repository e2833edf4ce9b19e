"""OpenCLIP models: built from a config, loaded from weights that are checked before they are used, saved as safetensors.

Weights come as open_clip's own tags (downloaded), as safetensors, or as the training checkpoints its trainer writes
(`epoch_N.pt`: a dict with epoch, name, state_dict, optimizer). Pickles are read with `weights_only` and nothing else, so a file
with code in it is refused, not run.
"""

import contextlib
import difflib
import functools
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from lib import files
from lib.errors import ConfigError, MissingInput, WeightsError

WEIGHTS_NAME, CONFIG_NAME = "open_clip_model.safetensors", "open_clip_config.json"
# What SigLIP starts from (open_clip's trainer, --siglip): temperature 10, bias -10.
SIGLIP_START = {"init_logit_scale": 2.302585092994046, "init_logit_bias": -10.0}


@dataclass(frozen=True)
class OpenClip:
    """A model with what belongs to it. Transforms take a PIL picture and give (3, S, S); the tokenizer gives (N, 77) ids."""

    model: nn.Module
    train_transform: Callable
    eval_transform: Callable
    tokenizer: Callable
    name: str
    config: dict


def register_architecture(name: str, config: dict) -> None:
    """Make a config (embed_dim, vision_cfg, text_cfg) known to open_clip under this name. Raises ConfigError if a part is missing."""
    missing = [part for part in ("embed_dim", "vision_cfg", "text_cfg") if part not in config]
    if missing:
        raise ConfigError(f"architecture {name}: {', '.join(missing)} missing; an open_clip config has embed_dim, vision_cfg, text_cfg")
    # open_clip reads its configs from files only; it keeps what it has read, so the file need not stay.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.json"
        files.write_json(path, config)
        open_clip.add_model_config(path)


def architecture(name: str) -> dict:
    """The config open_clip knows under this name. Raises ConfigError with the closest known names."""
    config = open_clip.get_model_config(name)
    if config is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), n=3)
        hint = f"closest: {', '.join(near)}" if near else "`python -c 'import open_clip; print(open_clip.list_models())'` lists them"
        raise ConfigError(f"open_clip knows no model {name!r}; {hint}")
    return config


def build_open_clip(
    name_or_config: str | dict,
    *,
    name: str = "custom",
    siglip: bool = False,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
) -> OpenClip:
    """A model with fresh weights drawn from the seed: one open_clip knows by name, or of a config, then registered as `name`.

    `siglip` adds the bias of the sigmoid loss and starts from its temperature.
    """
    if isinstance(name_or_config, dict):
        register_architecture(name, name_or_config)
    else:
        name = name_or_config
    config = architecture(name)
    extra = SIGLIP_START if siglip else {}
    return _create(name, {**config, **extra}, seed=seed, device=device, precision=precision, **extra)


def load_open_clip(weights: Path | str, *, model: str | dict | None = None, device: str = "cpu", precision: str = "fp32") -> OpenClip:
    """A model with weights, in evaluation mode.

    `weights` is a folder written by `save_weights` (then `model` may be left out), a .safetensors or .pt file, or a tag that
    open_clip knows for `model` (downloaded on first use). Raises WeightsError for a damaged, unsafe or foreign file, and
    MissingInput when there is no such file or tag.
    """
    if model is not None and isinstance(weights, str) and not Path(weights).exists():
        return _download(weights, _name_of(model), device=device, precision=precision)
    path = Path(weights)
    preprocess = {}
    if path.is_dir():
        described = _read_config(path)
        model, preprocess = model or described["model_cfg"], described.get("preprocess_cfg", {})
        path = path / WEIGHTS_NAME
    if model is None:
        raise ConfigError(f"{path}: a file of weights does not say which model it is of; name the model")
    state = read_state(path)
    name = _name_of(model)
    # A bias in the weights needs one in the model: open_clip itself breaks off here (AttributeError on logit_bias None).
    extra = SIGLIP_START if "logit_bias" in state else {}
    known = {key: preprocess[key] for key in ("mean", "std", "interpolation", "resize_mode") if preprocess.get(key)}
    images = {f"image_{key}": value for key, value in known.items()}
    bundle = _create(name, {**architecture(name), **extra}, seed=0, device=device, precision=precision, **extra, **images)
    load_state(bundle.model, state, f"{path}", name)
    bundle.model.eval()
    return bundle


def _name_of(model: str | dict) -> str:
    """The open_clip name of a model given by name or config; a config is registered under a name made of its content."""
    if isinstance(model, str):
        return model
    # "ViT" in the name matters: open_clip's trainer takes other AdamW settings for names without it.
    name = f"ViT-{files.digest(model)[:12]}"
    register_architecture(name, model)
    return name


def _create(name: str, config: dict, *, seed: int, device: str, precision: str, **extra: object) -> OpenClip:
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, train, evaluate = open_clip.create_model_and_transforms(name, precision=precision, device=device, output_dict=True, **extra)
        tokenizer = open_clip.get_tokenizer(name)
    read_to_end_token(model)
    return OpenClip(model, train, evaluate, tokenizer, name, config)


def _download(tag: str, name: str, *, device: str, precision: str) -> OpenClip:
    tags = open_clip.list_pretrained_tags_by_model(name)
    architecture(name)
    if tag not in tags:
        raise MissingInput(f"{tag}: neither a file nor a tag of {name}; its tags: {', '.join(tags) or 'none'}")
    try:
        with quiet():
            model, train, evaluate = open_clip.create_model_and_transforms(
                name, pretrained=tag, precision=precision, device=device, output_dict=True, weights_only=True
            )
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise MissingInput(
            f"weights {tag} of {name} could not be downloaded ({reason}); put the file in place and name its path"
        ) from error
    model.eval()
    read_to_end_token(model)
    return OpenClip(model, train, evaluate, open_clip.get_tokenizer(name), name, architecture(name))


def read_to_end_token(model: nn.Module) -> None:
    """Let `model.encode_text` stop at the last end token of the batch instead of computing all 77 places.

    The text tower of CLIP is causal and answers at the end token, so what stands behind it has no influence: the features are the
    same to rounding, for the share of the work that the texts need. Models that are built otherwise are left as they are.
    """
    if type(model) is open_clip.CLIP and model.text_pool_type == "argmax" and model.attn_mask is not None:
        model.encode_text = functools.partial(_encode_text, model)


def _encode_text(model: nn.Module, text: Tensor, normalize: bool = False) -> Tensor:
    """(N, D) text features of (N, 77) token ids; `CLIP.encode_text` on the columns that are in use."""
    ends = text.argmax(dim=-1)  # the end token has the highest id
    length = int(ends.max()) + 1
    kind = model.transformer.get_cast_dtype()
    x = model.token_embedding(text[:, :length]).to(kind) + model.positional_embedding[:length].to(kind)
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))  # (N, length, W)
    x = x[torch.arange(len(x), device=x.device), ends]
    x = model.text_projection(x) if isinstance(model.text_projection, nn.Linear) else x @ model.text_projection
    return functional.normalize(x, dim=-1) if normalize else x


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back open_clip's chatter while a model is built; it warns of random weights even where ours follow at once."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights by name, on the CPU, without the prefixes that torchrun and torch.compile put before them."""
    if not path.is_file():
        raise MissingInput(f"{path}: no such file of weights; give the path of one that is there")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: no weights in it; expected tensors by name, or a training checkpoint with state_dict")
    return {name.removeprefix("module.").removeprefix("_orig_mod."): value for name, value in state.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error}); copy or download it again") from error


def _read_pickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise WeightsError(
            f"{path}: holds more than tensors and plain values, which may be code; nothing of it was run; ask for a file of tensors only"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path}: damaged or cut off, torch cannot read it; copy or download it again") from error


def load_state(model: nn.Module, state: dict[str, Tensor], source: str, name: str) -> None:
    """Put the tensors into the model. Raises WeightsError with one line that lists what does not match.

    A missing bias is left as built, so that weights of the softmax loss can start a model of the sigmoid loss.
    """
    wanted = model.state_dict()
    state = dict(state)
    for scalar in ("logit_scale", "logit_bias"):
        if scalar in wanted and scalar in state and state[scalar].numel() == 1:
            state[scalar] = state[scalar].reshape(wanted[scalar].shape)  # one value, written as () or (1,)
    if "logit_bias" in wanted:
        state.setdefault("logit_bias", wanted["logit_bias"])
    missing, foreign = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & state.keys())
        if state[key].shape != wanted[key].shape
    ]
    faults = [_list(missing, "missing"), _list(foreign, "unknown"), _list(shapes, "of another shape")]
    if any(faults):
        raise WeightsError(
            f"{source}: weights of another architecture than {name}: {'; '.join(fault for fault in faults if fault)}; "
            "name the model they were trained with"
        )
    model.load_state_dict(state)


def _list(names: list[str], what: str) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {what} ({shown})" if names else ""


def save_weights(bundle: OpenClip, folder: Path) -> Path:
    """Write `open_clip_model.safetensors` (fp32) and `open_clip_config.json` into the folder; returns the path of the weights.

    open_clip itself loads the folder as `local-dir:FOLDER`, with the bias of the sigmoid loss too: the config asks for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in bundle.model.state_dict().items()}
    config = dict(bundle.config)
    if "logit_bias" in state:
        config |= SIGLIP_START
    path, draft = folder / WEIGHTS_NAME, folder / f".{WEIGHTS_NAME}.unfinished"
    try:
        save_file(state, draft, metadata={"format": "pt"})
        os.replace(draft, path)
    except (SafetensorError, OSError) as error:
        draft.unlink(missing_ok=True)
        raise files.disk_full(files.system_error(error), folder) from error
    files.write_json(folder / CONFIG_NAME, {"model_cfg": config, "preprocess_cfg": bundle.model.visual.preprocess_cfg})
    return path


def _read_config(folder: Path) -> dict:
    if not (folder / CONFIG_NAME).is_file():
        raise MissingInput(f"{folder}: no {CONFIG_NAME} in it, so not a folder of open_clip weights")
    config = files.read_json(folder / CONFIG_NAME)
    if not isinstance(config, dict) or "model_cfg" not in config:
        raise WeightsError(f"{folder / CONFIG_NAME}: no model_cfg in it; expected what save_weights or open_clip writes")
    return config


def weights_digest(weights: Path | nn.Module) -> str:
    """sha256 (hex) over names, shapes, types and bytes of all tensors: the same for a checkpoint and its export."""
    state = weights.state_dict() if isinstance(weights, nn.Module) else read_state(weights)
    total = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
