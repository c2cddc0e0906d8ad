"""Small random models of the real classes, patched and as they are: the same logits, the same tokens, in prefill and in
decoding, with the model's own cache."""

import copy

import pytest

import chunkwise

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5.24")
import chunkwise.transformers

SMALL = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, pad_token_id=0, bos_token_id=1, eos_token_id=None)
HEADS = dict(num_attention_heads=4, num_key_value_heads=2, intermediate_size=48)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
GATED = dict(linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=12)
SSD = dict(mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8, mamba_n_groups=2, mamba_chunk_size=8)

MODELS = {
    "Qwen3Next": dict(**HEADS, **GATED, **EXPERTS, shared_expert_intermediate_size=16, head_dim=8, num_hidden_layers=4),
    "Mamba2": dict(num_heads=8, head_dim=8, state_size=16, n_groups=2, chunk_size=8, expand=2),
    "FalconMamba": dict(state_size=8, intermediate_size=64),
    "Mamba": dict(state_size=8),
    "Bamba": dict(**HEADS, **SSD, attn_layer_indices=[1]),
    "FalconH1": dict(**HEADS, **SSD, mamba_d_ssm=64, head_dim=8),
    "Zamba2": dict(
        num_attention_heads=4, intermediate_size=48, n_mamba_heads=4, mamba_d_state=8, mamba_ngroups=2, chunk_size=8,
        layers_block_type=["linear_attention", "hybrid"],
    ),
    "Jamba": dict(**HEADS, num_experts=2, attn_layer_offset=1, attn_layer_period=2, mamba_d_state=8, mamba_dt_rank=4),
    "KimiLinear": dict(
        num_attention_heads=4, num_key_value_heads=4, intermediate_size=48, num_local_experts=2, num_experts_per_tok=1, moe_intermediate_size=16, kv_lora_rank=8, v_head_dim=8,
        qk_rope_head_dim=4, qk_nope_head_dim=8, linear_head_dim=8, linear_num_heads=4, num_hidden_layers=2,
        layer_types=["linear_attention", "full_attention"], mlp_layer_types=["dense", "sparse"],
    ),
}


def model_of(kind):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SMALL, **MODELS[kind]})
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    # Weights as they are drawn leave states near 0: what decays and steps is made to matter.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(weight + 0.1 * torch.randn_like(weight))
    return model


@pytest.fixture(params=MODELS)
def both(request):
    model = model_of(request.param)
    patched = copy.deepcopy(model)
    chunkwise.transformers.patch(patched)
    with torch.no_grad():
        yield model, patched


def close(got, wanted):
    return (got - wanted).norm() <= 1e-5 * wanted.norm()


def test_prefill_has_the_same_logits(both):
    model, patched = both
    for length in (1, 7, 130):
        tokens = torch.randint(2, 64, (2, length))
        assert close(patched(tokens).logits, model(tokens).logits), length


def test_padding_on_the_left_is_handled_as_it_was(both):
    model, patched = both
    tokens = torch.randint(2, 64, (2, 21))
    mask = torch.ones_like(tokens)
    mask[0, :8] = 0
    tokens[0, :8] = 0
    wanted, got = (of(tokens, attention_mask=mask).logits for of in (model, patched))
    assert close(got, wanted) and not close(got, model(tokens).logits)


def test_greedy_decoding_gives_the_same_tokens(both):
    model, patched = both
    tokens = torch.randint(2, 64, (2, 11))
    mask = torch.ones_like(tokens)
    mask[1, :3] = 0
    how = dict(attention_mask=mask, max_new_tokens=50, min_new_tokens=50, do_sample=False)
    how |= dict(output_logits=True, return_dict_in_generate=True)
    wanted, got = (of.generate(tokens, **how) for of in (model, patched))
    assert got.sequences.shape == (2, 61) and torch.equal(got.sequences, wanted.sequences)
    assert close(torch.stack(got.logits), torch.stack(wanted.logits))


def test_a_cache_goes_on_in_either(both):
    """A cache is the model's own: one of them fills it, the other goes on with two tokens, one by one."""
    model, patched = both
    tokens = torch.randint(2, 64, (1, 30))

    def steps(first, second):
        cache = transformers.DynamicCache(config=model.config)
        first(tokens[:, :28], cache=cache, use_cache=True)
        return torch.cat([second(tokens[:, at : at + 1], cache=cache, use_cache=True).logits for at in (28, 29)])

    wanted = steps(model, model)
    for first, second in [(patched, patched), (patched, model), (model, patched)]:
        assert close(steps(first, second), wanted)


def test_a_long_prompt_may_come_in_pieces(both):
    model, patched = both
    tokens = torch.randint(2, 64, (1, 30))

    def last(of):
        cache = transformers.DynamicCache(config=model.config)
        of(tokens[:, :17], cache=cache, use_cache=True)
        return of(tokens[:, 17:], cache=cache, use_cache=True).logits

    assert close(last(patched), last(model))


def test_what_was_replaced_is_said_and_undone():
    model = model_of("Qwen3Next")
    tokens = torch.randint(2, 64, (1, 9))
    with torch.no_grad():
        wanted = model(tokens).logits
        with chunkwise.transformers.patch(model) as patch:
            names = [f"model.layers.{n}.linear_attn" for n in range(3)]
            assert [one.name for one in patch.replaced] == names and patch.left == ()
            assert str(patch).splitlines()[0] == (
                "model.layers.0.linear_attn (Qwen3NextGatedDeltaNet): causal_conv1d_fn, causal_conv1d_update, "
                "torch_chunk_gated_delta_rule, torch_recurrent_gated_delta_rule"
            )
            assert close(model(tokens).logits, wanted)
            with pytest.raises(chunkwise.Error, match="has a `forward` of its own"):
                chunkwise.transformers.patch(model)
        assert torch.equal(model(tokens).logits, wanted)
        assert not any("forward" in module.__dict__ for module in model.modules())


def test_other_models_of_the_class_are_left_alone(monkeypatch):
    model, other = model_of("Mamba2"), model_of("Mamba2")
    chunkwise.transformers.patch(model)
    called = []
    monkeypatch.setattr(chunkwise.Variant, "__call__", lambda *_, **__: called.append(1))
    with torch.no_grad():
        other(torch.ones(1, 4, dtype=torch.long))
    assert not called


def test_a_model_without_such_layers_is_refused():
    with pytest.raises(chunkwise.Error, match="nothing to replace in a Linear: no layer calls any of causal_conv1d_fn"):
        chunkwise.transformers.patch(torch.nn.Linear(2, 2))


def test_a_gradient_is_the_models_own():
    model = model_of("Mamba2")
    tokens = torch.randint(2, 64, (1, 9))
    wanted = torch.autograd.grad(model(tokens).logits.sum(), model.get_input_embeddings().weight)[0]
    chunkwise.transformers.patch(model)
    chunkwise.transformers._say_once.cache_clear()
    with pytest.warns(chunkwise.ChunkwiseWarning, match="a call wants a gradient"):
        logits = model(tokens).logits
    assert torch.equal(torch.autograd.grad(logits.sum(), model.get_input_embeddings().weight)[0], wanted)


def test_weights_of_half_the_width_are_taken():
    model = model_of("Mamba2")
    tokens = torch.randint(2, 64, (1, 40))
    with torch.no_grad():
        exact = model(tokens).logits
        model.bfloat16()
        theirs = model(tokens).logits
        chunkwise.transformers.patch(model)
        ours = model(tokens).logits
    assert ours.dtype == theirs.dtype and not torch.equal(ours, theirs)
    assert (ours - exact).norm() < 1.5 * (theirs - exact).norm()


def test_a_patched_model_compiles_as_one_graph():
    model = model_of("Qwen3Next").model.layers[0].linear_attn
    hidden = torch.randn(1, 20, 32)
    with torch.no_grad():
        wanted = model(hidden)
        patched = torch.nn.Module()
        patched.layer = copy.deepcopy(model)
        chunkwise.transformers.patch(patched)
        assert close(torch.compile(patched.layer, fullgraph=True)(hidden), wanted)
