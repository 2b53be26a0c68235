"""Hugging Face's networks at tiny configurations: a permutation by head comes back, of every tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Of(nn.Module):
    """A network of transformers as one tensor after another, and the logits or states alone."""

    def __init__(self, network: nn.Module, *names: str) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs: Tensor) -> Tensor:
        found = self.network(**dict(zip(self.names, inputs, strict=True)), return_dict=True)
        return found.logits if "logits" in found else found.last_hidden_state


def bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=23, hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=12
    )
    return Of(transformers.BertModel(config, add_pooling_layer=False), "input_ids")


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=23, hidden_size=16, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=12, use_cache=False,
    )  # fmt: skip
    return Of(transformers.LlamaForCausalLM(config), "input_ids")


def whisper() -> nn.Module:
    config = transformers.WhisperConfig(
        vocab_size=23, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=12, decoder_ffn_dim=12, num_mel_bins=6, max_source_positions=8,
        max_target_positions=8, use_cache=False, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    return Of(transformers.WhisperForConditionalGeneration(config), "input_features", "decoder_input_ids")


def bart() -> nn.Module:
    config = transformers.BartConfig(
        vocab_size=23, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=12, decoder_ffn_dim=12, max_position_embeddings=8, use_cache=False,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return Of(transformers.BartForConditionalGeneration(config), "input_ids", "decoder_input_ids")


def mixture(kind: str, experts: str, **settings: Any) -> Callable[[], nn.Module]:
    """A decoder with 4 experts, as one of transformers' implementations computes them."""

    def build() -> nn.Module:
        config = getattr(transformers, f"{kind}Config")(
            vocab_size=23, hidden_size=16, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=12, head_dim=4, num_experts_per_tok=2, use_cache=False, **settings,
        )  # fmt: skip
        config._experts_implementation = experts
        return Of(getattr(transformers, f"{kind}ForCausalLM")(config), "input_ids")

    return build


MIXTURES = {
    "mixtral": ("Mixtral", {"num_local_experts": 4}),
    "qwen2_moe": (
        "Qwen2Moe",
        {"num_experts": 4, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 5},
    ),
    "qwen3_moe": ("Qwen3Moe", {"num_experts": 4, "moe_intermediate_size": 8}),
    "gpt_oss": ("GptOss", {"num_local_experts": 4}),
}


@pytest.mark.parametrize("experts", ["batched_mm", "grouped_mm"])
@pytest.mark.parametrize("name", MIXTURES)
def test_permutation_by_expert_that_is_looked_up_comes_back(name: str, experts: str) -> None:
    kind, settings = MIXTURES[name]
    source, reference, symmetry = planted(mixture(kind, experts, **settings), tokens)
    nested = [group for group in symmetry.within if "experts" in group]
    routers = [outer for group in nested for outer in symmetry.within[group]]
    assert len(nested) == 1
    assert len(symmetry.within) == 3  # and query heads, and channels of values, in heads of keys and values
    assert symmetry.groups[routers[0]] == 4
    for found in (
        match_activations(source, reference, [tokens(128)], symmetry),
        match_weights(source, reference, symmetry),
    ):
        moved = symmetry.permute(source, found.permutation)
        wrong = [key for key, tensor in reference.state_dict().items() if not torch.equal(moved[key], tensor)]
        assert wrong == []


def tokens(batch: int) -> tuple[Tensor, ...]:
    return (torch.randint(3, 23, (batch, 7)),)


def pairs(batch: int) -> tuple[Tensor, ...]:
    return (*tokens(batch), *tokens(batch))


def sounds(batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 6, 16), torch.randint(3, 23, (batch, 7)))


def planted(
    build: Callable[[], nn.Module], inputs: Callable[[int], tuple[Tensor, ...]]
) -> tuple[nn.Module, nn.Module, Symmetry]:
    """A network, the same under a random permutation, and their symmetry."""
    torch.manual_seed(0)
    source = build().eval()
    for parameter in source.parameters():
        nn.init.normal_(parameter, std=0.5)
    symmetry = trace_symmetry(source, inputs(2))
    assert symmetry.error is not None
    permutation = symmetry.random(torch.Generator().manual_seed(0))
    reference = copy.deepcopy(source)
    reference.load_state_dict(symmetry.permute(source, permutation))
    return source, reference, symmetry


@pytest.mark.parametrize(
    ("build", "inputs", "heads"), [(bert, tokens, 1), (llama, tokens, 1), (bart, pairs, 3), (whisper, sounds, 3)]
)
def test_permutation_by_head_comes_back(
    build: Callable[[], nn.Module], inputs: Callable[[int], tuple[Tensor, ...]], heads: int
) -> None:
    source, reference, symmetry = planted(build, inputs)
    outers = {outer for around in symmetry.within.values() for outer in around}
    assert len(outers) == heads  # layers of attention
    batches = [inputs(128)]
    for found in (
        match_activations(source, reference, batches, symmetry),
        match_weights(source, reference, symmetry),
    ):
        moved = symmetry.permute(source, found.permutation)
        wrong = [name for name, tensor in reference.state_dict().items() if not torch.equal(moved[name], tensor)]
        assert wrong == []


def test_every_unit_of_a_stream_moves_where_one_is_looked_at_for_its_size() -> None:
    """The lookup of positions is given the last unit of the stream, of which it asks the length alone."""
    torch.manual_seed(0)
    symmetry = trace_symmetry(bart(), pairs(2))
    assert symmetry.groups["network.lm_head.weight"] == 16
    assert {entry.reason for entry in symmetry.frozen} == {"rows are looked up by index"}
