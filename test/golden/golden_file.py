"""One golden file: its models, their runs, and the tensors that are kept of them."""

import copy
import json
import pathlib
import tempfile

import torch
import transformers
from safetensors.torch import save_file
from transformers import StableLmConfig

from runs import Run, execute, kept
from weight_recipe import fill

FOLDER = pathlib.Path(__file__).parent.parent / "testdata" / "golden"
VERSIONS = f"transformers {transformers.__version__}, torch {torch.__version__}, eager attention"

# How far f32 may be from f64, as a share of the largest element: a quarter of the tightest gate.
NOISE = 5e-6
# By how much the largest logit of a row leads the next, as a share of the largest of all: twice the
# widest gate.
MARGIN = 2e-4


def build(model_class, config: StableLmConfig, dtype: str):
    """A model of a dtype with the recipe's weights.

    Its RoPE frequencies stay f32, as those of from_pretrained do and those of model.half() do not.
    """
    config = StableLmConfig(**config.to_dict())
    dtype = getattr(torch, dtype)
    model = model_class._from_config(config, dtype=dtype, attn_implementation="eager")
    decoder = getattr(model, "model", model)
    assert decoder.rotary_emb.inv_freq.dtype == torch.float32
    return fill(model)


def config_json(model_class, config: StableLmConfig) -> dict:
    """The config.json that `save_pretrained` writes."""
    with tempfile.TemporaryDirectory() as folder:
        model_class(config).save_pretrained(folder)
        return json.loads((pathlib.Path(folder) / "config.json").read_text())


def config_v4(config: dict) -> dict:
    """The config in the words of transformers 4; read back, to be sure that it says the same."""
    new_words = ("rope_parameters", "dtype", "transformers_version")
    old = {key: value for key, value in config.items() if key not in new_words}
    rope = dict(config["rope_parameters"])
    old["rope_theta"] = rope.pop("rope_theta")
    old["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    old["rope_scaling"] = None if rope == {"rope_type": "default"} else rope
    old["torch_dtype"] = config["dtype"]
    again, before = (StableLmConfig(**copy.deepcopy(form)).to_dict() for form in (old, config))
    assert again | {"transformers_version": ""} == before | {"transformers_version": ""}
    return old


class GoldenFile:
    """The models of one file, their runs and tensors."""

    def __init__(self, name: str):
        self.name = name
        self.models: list[dict] = []
        self.tensors: dict[str, torch.Tensor] = {}

    def add(self, name: str, model_class, config: StableLmConfig, runs: list[Run], v4=False):
        """Runs a model and keeps what the calls ask for.

        Returns all outputs of every call by run, and the f32 model.
        """
        entry = dict(name=name, class_name=model_class.__name__)
        entry["config"] = config_json(model_class, config)
        if v4:
            entry["config_v4"] = config_v4(entry["config"])
        entry["runs"] = []
        models = {
            dtype: build(model_class, config, dtype)
            for dtype in sorted({run.dtype for run in runs} | {"float32", "float64"})
        }
        everything = {}
        for run in runs:
            everything[run.name] = outputs = execute(models[run.dtype], run)
            truth = execute(models["float64"], run)
            calls = []
            for index, call in enumerate(run.calls):
                place = f"{name}/{run.name}/{index}"
                stored = kept(call, outputs[index])
                if run.dtype == "float16":
                    stored["truth"] = truth[index]["logits"]
                for key, tensor in stored.items():
                    if run.dtype == "float32":
                        self.check_noise(f"{place}/{key}", tensor, truth[index][key])
                    single = tensor.float() if key == "truth" else tensor
                    self.tensors[f"{place}/{key}"] = single.contiguous()
                calls.append({key: value for key, value in call.items() if key != "keep"})
            entry["runs"].append(dict(name=run.name, dtype=run.dtype, calls=calls))
        self.models.append(entry)
        return everything, models["float32"]

    def check_noise(self, place: str, single: torch.Tensor, double: torch.Tensor):
        """Stops where f32 is far from f64, or where the largest logit is hardly the largest."""
        if not torch.isfinite(double).all():
            assert torch.equal(torch.isnan(single), torch.isnan(double)), place
            return
        largest = double.abs().max()
        noise = (single - double).abs().max() / largest
        assert noise < NOISE, f"{self.name}: {place}: f32 is {noise:.1e} off f64"
        if place.endswith("logits") and double.shape[-1] > 1:
            first, second = double.topk(2, dim=-1).values.unbind(-1)
            margin = (first - second).min() / largest
            assert margin > MARGIN, f"{self.name}: {place}: the largest logit leads by {margin:.1e}"

    def write(self):
        """Writes the file; the same bytes for the same numbers."""
        # One key, as safetensors writes several in an order that differs from run to run.
        description = json.dumps(
            dict(made_with=VERSIONS, models=self.models), separators=(",", ":")
        )
        path = FOLDER / f"{self.name}.safetensors"
        save_file(self.tensors, path, dict(golden=description))
        path.chmod(0o644)
        print(f"{path.name}: {len(self.tensors)} tensors, {path.stat().st_size} bytes")
