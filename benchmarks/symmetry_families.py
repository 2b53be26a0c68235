"""The symmetry of one small network per family of timm, and of small configurations of Hugging Face's transformers.

    python -m benchmarks.symmetry_families [--models a,b] [--out benchmarks/results] [--fresh]

Needs timm and transformers. Each network is built with random weights, traced and verified in a process of its own, on
one thread. After each one symmetry_families.json is written; networks that are in it are not measured again without
--fresh. At the end docs/symmetry.md gets its tables.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._page import DOCS, between
from benchmarks._processes import measured_apart
from benchmarks.symmetry import timed
from rebasin_lt.errors import InputError, SymmetryError
from rebasin_lt.report.kit.tables import Column, Table
from rebasin_lt.storage.files import write_json, write_text

Record = dict[str, Any]
TIMM = (
    *("convnext_atto", "deit_tiny_patch16_224", "edgenext_xx_small", "efficientformerv2_s0", "efficientvit_b0"),
    *("fastvit_t8", "ghostnet_050", "gmlp_ti16_224", "levit_128s", "mixer_s32_224", "mobileone_s0", "mobilevit_xxs"),
    *("poolformer_s12", "pvt_v2_b0", "resmlp_12_224", "tiny_vit_5m_224", "xcit_nano_12_p16_224", "coat_lite_tiny"),
)
_SMALL = {
    **{"vocab_size": 40, "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "max_position_embeddings": 32},
}
_DECODER = {**_SMALL, "num_key_value_heads": 2, "use_cache": False}
_CODER = {
    **{"vocab_size": 40, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "pad_token_id": 0},
    **{"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "use_cache": False},
}
_EXPERTS = {**_DECODER, "num_experts_per_tok": 2}
_LATENT = {
    **{**_EXPERTS, "num_key_value_heads": 4, "moe_intermediate_size": 16, "n_routed_experts": 4, "n_shared_experts": 1},
    **{"n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 12, "q_lora_rank": 16},
    **{"qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8},
}
# name -> (class of the configuration, class of the network, settings)
HUGGING_FACE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "BertForSequenceClassification", _SMALL),
    "roberta": ("RobertaConfig", "RobertaForSequenceClassification", {**_SMALL, "pad_token_id": 1}),
    "deberta_v2": ("DebertaV2Config", "DebertaV2ForSequenceClassification", {**_SMALL, "relative_attention": True}),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {"vocab_size": 40, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "use_cache": False},
    ),
    "llama": ("LlamaConfig", "LlamaForCausalLM", _DECODER),
    "t5": (
        "T5Config",
        "T5ForConditionalGeneration",
        {
            **{"vocab_size": 40, "d_model": 32, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 4},
            "use_cache": False,
        },
    ),
    "bart": ("BartConfig", "BartForConditionalGeneration", {**_CODER, "max_position_embeddings": 32}),
    "whisper": (
        "WhisperConfig",
        "WhisperForConditionalGeneration",
        {**_CODER, "num_mel_bins": 8, "max_source_positions": 10, "max_target_positions": 10},
    ),
    "mamba2": (
        "Mamba2Config",
        "Mamba2ForCausalLM",
        {
            **{"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 1, "num_heads": 8, "head_dim": 8},
            **{"state_size": 8, "n_groups": 1, "chunk_size": 4, "use_cache": False},
        },
    ),
    **{
        f"{name}, {experts}": (f"{kind}Config", f"{kind}ForCausalLM", {**settings, "_experts_implementation": experts})
        for name, kind, settings in (
            ("mixtral", "Mixtral", {**_EXPERTS, "num_local_experts": 4}),
            (
                "qwen2_moe",
                "Qwen2Moe",
                {**_EXPERTS, "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 20},
            ),
            ("qwen3_moe", "Qwen3Moe", {**_EXPERTS, "num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8}),
            ("gpt_oss", "GptOss", {**_EXPERTS, "num_local_experts": 4, "head_dim": 8}),
            ("deepseek_v3", "DeepseekV3", _LATENT),
        )
        for experts in ("batched_mm", "grouped_mm", "eager")
    },
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what has not been measured yet, then write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.symmetry_families", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", help="names as in the tables; all of them if not given")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in symmetry_families.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # what a process of its own is started with
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(measure(given.one)))
        return
    results = given.out / "symmetry_families.json"
    for name in given.models or (*HUGGING_FACE, *TIMM):
        written = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {"models": {}}
        if given.fresh or "failed" in written["models"].get(name, {"failed": ""}):
            written["models"][name] = measured_apart("benchmarks.symmetry_families", name)
            written["made_by"] = "python -m benchmarks.symmetry_families"
            write_json(results, written)
    write_tables(json.loads(results.read_text(encoding="utf-8"))["models"])


def measure(name: str) -> Record:
    """Build, trace and verify a network, on one thread; seconds are of the processor's time."""
    import torch

    from rebasin_lt.symmetry.trace import infer_symmetry

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, inputs = build(name)
    try:
        symmetry, seconds = timed(lambda: infer_symmetry(model, inputs))
        error = symmetry.verify(model, inputs)
    except (InputError, SymmetryError) as refusal:
        return {"refused": re.sub(r" at /.*?:\d+ ", " at ", str(refusal))}  # paths differ between machines
    return {
        "groups": len(symmetry.groups),
        "units": sum(map(symmetry.num_units, symmetry.groups)),
        "coverage": symmetry.coverage,
        "log10_symmetries": symmetry.log10,
        "error": error,
        "checked_in": symmetry.checked_in,
        "seconds": seconds,
        "unknown": dict(symmetry.unknown),
        "sizes": dict(symmetry.groups) if name in HUGGING_FACE else {},
        "within": {group: list(outer) for group, outer in symmetry.within.items()} if name in HUGGING_FACE else {},
    }


def build(name: str) -> tuple[Any, Any]:
    """A network with random weights, and an example of its inputs."""
    import warnings

    import torch

    warnings.simplefilter("ignore")
    if name in TIMM:
        import timm

        model = timm.create_model(name)
        return model, torch.randn(2, *model.default_cfg["input_size"])
    import transformers

    config, kind, settings = HUGGING_FACE[name]
    settings = dict(settings)
    experts = settings.pop("_experts_implementation", None)
    made = getattr(transformers, config)(**settings)
    if experts:
        made._experts_implementation = experts
    tokens = torch.randint(3, 40, (2, 6))
    inputs: Any = {"input_ids": tokens}
    if name == "whisper":
        inputs = {"input_features": torch.randn(2, 8, 20), "decoder_input_ids": tokens}
    elif name in {"t5", "bart"}:
        inputs["decoder_input_ids"] = tokens
    return getattr(transformers, kind)(made), inputs


def write_tables(models: Mapping[str, Record], docs: Path = DOCS) -> None:
    """Put the tables between their markers in symmetry.md."""
    page = (docs / "symmetry.md").read_text(encoding="utf-8")
    for marker, names in (("timm table", TIMM), ("hugging face table", HUGGING_FACE)):
        page = between(page, marker, _table({name: models[name] for name in names if name in models}))
    write_text(docs / "symmetry.md", page)


def _table(models: Mapping[str, Record]) -> str:
    columns = [
        Column("network", align="left"),
        *map(Column, ("groups", "units", "coverage (%)", "log10 symmetries", "error", "checked in", "seconds")),
    ]
    rows = []
    for name, record in models.items():
        if "error" not in record:
            rows.append([name, record.get("refused") or f"failed: {record['failed']}", *[""] * (len(columns) - 2)])
            continue
        numbers = [str(record["groups"]), f"{record['units']:,}", f"{100 * record['coverage']:.2f}"]
        numbers += [f"{record['log10_symmetries']:,.0f}", f"{record['error']:.0e}", record["checked_in"]]
        rows.append([name, *numbers, f"{record['seconds']:.0f}"])
    return Table(columns, rows).to_markdown(markup=True).strip()


if __name__ == "__main__":
    main()
