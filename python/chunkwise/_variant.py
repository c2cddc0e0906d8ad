"""`compile`, and what it gives: a variant that is called like a function."""

from __future__ import annotations

import inspect
import json
import os
from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from . import _arrays, _command, _engine, _gradient
from ._command import Report
from ._session import Session, arranged, placed
from .errors import ShapeError, VerifyError

if TYPE_CHECKING:
    from ._arrays import Tensors

__all__ = ["Report", "Session", "State", "Tensor", "Variant", "compile", "examples"]


class Tensor(NamedTuple):
    """An input, a param or an output; `shape` in the names of the axes."""

    name: str
    role: str
    dtype: str
    shape: tuple[str, ...]


class State(NamedTuple):
    """A state: its shape in calls, and the class of its transition."""

    name: str
    shape: tuple[str, ...]
    transition: str


def examples() -> dict[str, str]:
    """The variants in this package, each with its title; `compile("@NAME")` takes one.

    >>> "gated_deltanet" in examples()
    True
    """
    return dict(_engine.examples_all())


def compile(
    source: Union[str, os.PathLike[str]],
    *,
    variant: str | None = None,
    args: Mapping[str, float] | None = None,
    backend: str = "auto",
    form: str = "auto",
    chunk: int | None = None,
    precision: str = "f32",
    threads: int | None = None,
) -> Variant:
    """Parses and checks a variant. Kernels are compiled at the first call of a shape.

    `source` is a path, `@NAME` for one of `examples()`, or the text itself, which has `variant` and a brace in it.
    `variant` names one of several in a file; `args` are values of compile-time parameters. `threads` are PyTorch's, or all
    cores, if none are given. Raises `SourceError` with all that is wrong.

    >>> linear = compile('''
    ... variant linear {
    ...   axes B, T, H, K, V;
    ...   input q, k : [B,T,H,K], v : [B,T,H,V];
    ...   state S : [K,V] = 0;
    ...   update S additive(k, v);
    ...   output o[t] = S[t]' * q[t];
    ... }''')
    >>> linear.name, [tensor.name for tensor in linear.inputs]
    ('linear', ['q', 'k', 'v'])
    """
    name, text = _text(source)
    options = (backend, form, chunk, precision)
    return Variant(name, text, variant, dict(args or {}), options, threads)


def _text(source: Union[str, os.PathLike[str]]) -> tuple[str, str]:
    if isinstance(source, str):
        if "{" in source and "variant" in source:
            return "<source>", source
        if source.startswith("@"):
            return source, _engine.example(source[1:])
    with open(source, encoding="utf-8") as file:
        return os.fspath(source), file.read()


def of_key(key: str) -> Variant:
    """The variant that `Variant._key` was of."""
    name, text, variant, args, options, threads = json.loads(key)
    return Variant(name, text, variant, args, tuple(options), threads)


class Variant:
    """One attention variant, called with its inputs by position or by name.

    Sizes come from the tensors; those of axes that no tensor gives are arguments by the names of the axes (`Y=14, X=14`).
    Results are of the library that the inputs are of. `cu_seqlens` says that the row of tokens is several sequences, one
    after the other: where each begins, and where the last one ends; states then have a place a sequence.

    >>> import numpy as np
    >>> gdn = compile("@gated_deltanet")
    >>> inputs = gdn.draw(B=1, T=5, H=2, K=4, V=3)
    >>> o, state = gdn(**inputs, output_final_state=True)
    >>> o.shape, state.shape
    ((1, 5, 2, 3), (1, 2, 4, 3))
    >>> bool(np.allclose(gdn(**inputs, initial_state=state)[0, 0], o[0, 0]))
    False
    """

    def __init__(
        self,
        file: str,
        source: str,
        variant: str | None,
        args: dict[str, float],
        options: tuple[str, str, int | None, str],
        threads: int | None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}, expected 1 or more")
        self.source = source
        self.backend, self.form, self.chunk, self.precision = options
        self._file, self._args, self._threads = file, args, threads
        self._kernel = _engine.Kernel((file, source), variant, list(args.items()), options)
        facts = self._facts = self._kernel.facts()
        self.name: str = facts["name"]
        self._key = json.dumps([file, source, self.name, args, options, threads])
        self._all = tuple(Tensor(name, role, dtype, tuple(shape)) for name, role, dtype, shape in facts["inputs"])
        self._names = tuple(tensor.name for tensor in self._all)
        self._axes = tuple(name for name, _ in facts["axes"] if name not in self._names)
        self._state_names = tuple(name for name, _ in facts["states"])
        self._count, self._outputs = len(self._all), len(facts["outputs"])
        self._pack_outputs = _packer(f"{self.name}_outputs", [name for name, _ in facts["outputs"]])
        self._pack_states = _packer(f"{self.name}_states", list(self._state_names))
        self._adjoint: _gradient.Adjoint | None = None
        self._reported: tuple[tuple[State, ...], dict[str, str | None]] | None = None
        self.__signature__ = self._signature()
        self.__doc__ = self._documentation()

    def __call__(
        self, *tensors: Any, initial_state: Any = None, output_final_state: bool = False, **named: Any
    ) -> Any:
        sizes: _arrays.Sizes = ()
        packed = named.pop("cu_seqlens", None) if named and "cu_seqlens" not in self._names else None
        if named or len(tensors) != self._count:
            sizes = tuple((name, named.pop(name)) for name in self._axes if isinstance(named.get(name), int))
            tensors = arranged(self.name, self._names, tensors, named)
        initial = None if initial_state is None else placed(self.name, self._state_names, initial_state)
        kind = type(tensors[0]) if tensors else type(None)
        run = _arrays.RUNNERS.get(kind) or _arrays.runner(kind)
        if packed is None:
            outputs, states = run(self, tensors, initial, output_final_state, sizes)
        else:
            outputs, states = _arrays.run_packed(self, tensors, packed, (initial, output_final_state, sizes))
        packed = outputs[0] if self._outputs == 1 else self._pack_outputs(*outputs)
        if not output_final_state:
            return packed
        if isinstance(initial_state, dict):
            return packed, dict(zip(self._state_names, states))
        return packed, states[0] if len(self._state_names) == 1 else self._pack_states(*states)

    def advance(self, *tensors: Any, states: Any, **named: Any) -> Any:
        """The outputs of a call from these states, given as `initial_state`; the states are then those after it.

        They are changed where they lie, float32 and contiguous, by a kernel that copies none of them if the variant's form
        allows: what a cache of states wants in decoding.

        >>> gla = compile("@gla")
        >>> token = gla.draw(B=1, T=1, H=2, K=4, V=4)
        >>> o, state = gla(**token, output_final_state=True)
        >>> same = gla.advance(**token, states=state)
        """
        sizes: _arrays.Sizes = ()
        if named or len(tensors) != self._count:
            sizes = tuple((name, named.pop(name)) for name in self._axes if isinstance(named.get(name), int))
            tensors = arranged(self.name, self._names, tensors, named)
        held = placed(self.name, self._state_names, states)
        outputs = _arrays.advance(self, tensors, held, sizes)
        return outputs[0] if self._outputs == 1 else self._pack_outputs(*outputs)

    def vjp(self, inputs: Any, cotangents: Any, *, initial_state: Any = None, **sizes: int) -> dict[str, Any]:
        """The gradients of all real inputs and params by name, and of the initial states: what the cotangents are pulled
        back to.

        `inputs` are a tuple or a dict. `cotangents` are the tensor of the only output, a tuple of all, or a dict by the names
        of outputs and final states, of which those left out are 0. Raises `Unsupported` for a variant without an adjoint.

        >>> import numpy as np
        >>> gla = compile("@gla")
        >>> inputs = gla.draw(B=1, T=5, H=2, K=4, V=3)
        >>> sorted(gla.vjp(inputs, np.ones((1, 5, 2, 3), np.float32)))
        ['S', 'g', 'k', 'q', 'v']
        """
        named = dict(inputs) if isinstance(inputs, Mapping) else {}
        tensors = arranged(self.name, self._names, () if named else tuple(inputs), named)
        initial = None if initial_state is None else placed(self.name, self._state_names, initial_state)
        given = _gradient.named_cotangents(self, cotangents)
        found, states = _arrays.gradients(self, tensors, (initial, given), tuple(sizes.items()))
        by_name = {name: one for name, one in zip(self._names, found) if one is not None}
        return by_name | dict(zip(self._state_names, states))

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in self._all if tensor.role == "input")

    @property
    def params(self) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in self._all if tensor.role == "param")

    @property
    def axes(self) -> dict[str, str | None]:
        """The axes, each with the size that it is made of (`H` of `G*R`); None where calls give it.

        >>> compile("@mamba2").axes["H"]
        'G*R'
        """
        return dict(self._facts["axes"])

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return tuple(Tensor(name, "output", "float32", tuple(shape)) for name, shape in self._facts["outputs"])

    @property
    def states(self) -> tuple[State, ...]:
        """The states, each with the class that the derivation finds for its transition."""
        return self._report()[0]

    @property
    def forms(self) -> dict[str, str | None]:
        """The forms, each with the reason why the variant has it not; None if it has it."""
        return self._report()[1]

    def _report(self) -> tuple[tuple[State, ...], dict[str, str | None]]:
        if self._reported is None:
            classes, forms = self._kernel.report()
            found = dict(classes)
            states = (State(name, tuple(shape), found.get(name, "unknown")) for name, shape in self._facts["states"])
            self._reported = tuple(states), dict(forms)
        return self._reported

    def draw(self, *, seed: int = 0, like: Any = None, **sizes: int) -> dict[str, Any]:
        """Random inputs and params of these sizes, drawn as the program's `check draw` says.

        NumPy's arrays, or tensors of the library that `like` is of.

        >>> sorted(compile("@gla").draw(B=1, T=2, H=1, K=4, V=4))
        ['g', 'k', 'q', 'v']
        """
        return dict(self._kernel.draw(_arrays.empty_like(like), list(sizes.items()), seed))

    def choice(self, **sizes: int) -> str:
        """What a call of these sizes takes (back end, form, tokens in a chunk), and why.

        >>> print(compile("@gla", backend="reference").choice(B=1, T=64, H=2, K=8, V=8))
        reference, recurrent
        the reference was asked for
        """
        plan, reasons = self._kernel.choice(list(sizes.items()), self._threads or _arrays.threads())
        return "\n".join([plan, *reasons])

    def session(self, **sizes: int) -> Session:
        """Decoding at these sizes: calls of one token (or `T` of them), each from the states that the one before left.

        >>> decode = compile("@gla").session(B=1, H=2, K=4, V=4)
        >>> token = compile("@gla").draw(B=1, T=1, H=2, K=4, V=4)
        >>> decode.step(**token).shape
        (1, 1, 2, 4)
        """
        return Session(self, self._kernel.session(list(sizes.items()), self._threads or _arrays.threads()))

    def module(self, *, seed: int = 0, **given: Any) -> Any:
        """An `nn.Module` whose parameters are the variant's params: tensors that are given, or drawn at given sizes."""
        from . import torch as ours

        names = [tensor.name for tensor in self.params]
        tensors = {name: value for name, value in given.items() if name in names}
        sizes = {name: value for name, value in given.items() if name not in names}
        if len(tensors) < len(names):
            # The axes of the inputs have no say in what params are.
            open_axes = {axis for axis, value in self._facts["axes"] if value is None} - sizes.keys()
            wanted = {axis for tensor in self.params for axis in tensor.shape if tensor.name not in tensors}
            missing = sorted(wanted & open_axes)
            if missing:
                raise ShapeError(f"the params of `{self.name}` are drawn at given sizes: give {', '.join(missing)}")
            like = ours.empty((0,), "float32")
            drawn = self.draw(seed=seed, like=like, **{axis: 1 for axis in open_axes}, **sizes)
            tensors = {name: tensors.get(name, drawn[name]) for name in names}
        return ours.Module(self, tensors)

    def _with_params(self, params: dict[str, Any], inputs: Tensors, named: dict[str, Any]) -> Any:
        """A call with the inputs alone by position."""
        names = [tensor.name for tensor in self.inputs]
        if len(inputs) > len(names):
            raise TypeError(f"`{self.name}` takes {len(names)} inputs, and {len(inputs)} are given")
        return self(**dict(zip(names, inputs)), **params, **named)

    def check(self) -> str:
        """What `chunkwise check` prints: inputs, states, forms, and what compiles them."""
        lines, _, _ = _command.run(["check", "-", *self._arguments()], self.source)
        return "\n".join(lines)

    def explain(self, *, form: str | None = None, check: bool = False) -> str:
        """The derivation of a form, rule by rule; with `check`, every term is evaluated on a small random instance."""
        words = ["explain", "-", *self._one(), *self._asked(form=form)] + (["--check"] if check else [])
        lines, said, status = _command.run(words, self.source)
        if status != 0:
            raise VerifyError(said[-1]["message"], Report([{"derivation": "\n".join(lines)}], ["derivation"]))
        return "\n".join(lines)

    def emit(self, *, stage: str = "code", form: str | None = None, backend: str | None = None, **sizes: int) -> str:
        """What the compiler made at a stage (`ast typed ir form plan kernel code asm`), as text."""
        words = ["emit", "-", "--stage", stage, *self._one(), *self._asked(form=form, backend=backend), *_dims(sizes)]
        return "\n".join(_command.run(words, self.source)[0])

    def verify(
        self, *, form: str | None = None, backend: str | None = None, tokens: Sequence[int] = (), **sizes: int
    ) -> Report:
        """Every form on every back end against the f64 reference, on random inputs; raises `VerifyError` over a bound."""
        words = ["verify", "-", "--json", *self._asked(form=form, backend=backend), *self._arguments(), *_dims(sizes)]
        words += ["--tokens", ",".join(map(str, tokens))] if tokens else []
        report = self._table(words, ["form", "chunk", "backend", "tokens", "case", "error", "bound", "ok"])
        over = [row for row in report if not row["ok"]]
        if over:
            raise VerifyError(f"{len(over)} of {len(report)} checks of `{self.name}` are over their bound", report)
        return report

    def bench(
        self, *, form: str | None = None, backend: str | None = None, tokens: Sequence[int] = (), **sizes: int
    ) -> Report:
        """The kernels' times, as `chunkwise bench` takes them, in a process of its own."""
        words = ["bench", "-", "--json", *self._asked(form=form, backend=backend), *self._arguments(), *_dims(sizes)]
        words += ["--tokens", ",".join(map(str, tokens))] if tokens else []
        words += ["--threads", str(self._threads or _arrays.threads())]
        return self._table(words, ["form", "backend", "chunk", "tokens", "threads", "median_ms", "gflops", "gbps"])

    def _table(self, words: list[str], columns: list[str]) -> Report:
        lines, _, _ = _command.run(words, self.source)
        rows = [json.loads(line) for line in lines]
        return Report([row for row in rows if row["variant"] == self.name], columns)

    def _arguments(self) -> list[str]:
        return [word for name, value in self._args.items() for word in ("--arg", f"{name}={value}")]

    def _one(self) -> list[str]:
        return ["--variant", self.name, *self._arguments()]

    def _asked(self, **wanted: str | None) -> list[str]:
        """The options that a command is asked for: those of this call, or else of the variant."""
        words: list[str] = []
        for name, value in wanted.items():
            value = value or getattr(self, name)
            words += [f"--{name}", value] if value != "auto" else []
        return words

    def _shapes(self, given: Sequence[tuple[Any, ...]], named: _arrays.Sizes) -> tuple[list[Any], list[Any]]:
        """The shapes of outputs and states, which may be symbols."""
        if not all(type(extent) is int for shape in given for extent in shape):
            found = self._symbols(given, named)
            if found is not None:
                return found
        return self._kernel.shapes([[int(extent) for extent in shape] for shape in given], named)

    def _symbols(self, given: Sequence[tuple[Any, ...]], named: _arrays.Sizes) -> tuple[list[Any], list[Any]] | None:
        """The same in the sizes that the inputs have as they are; None if an axis is none of them."""
        sizes: dict[str, Any] = dict(named)
        for tensor, shape in zip(self._all, given):
            if len(tensor.shape) != len(shape):
                return None
            for axis, extent in zip(tensor.shape, shape):
                sizes.setdefault(axis, extent)
        for axis, value in self._facts["axes"]:
            if axis not in sizes and value is not None:
                sizes.setdefault(axis, _evaluated(value, sizes))
        shapes = [
            [[sizes.get(dim, _evaluated(dim, sizes)) for dim in shape] for _, shape in self._facts[kind]]
            for kind in ("outputs", "states")
        ]
        if any(extent is None for kind in shapes for shape in kind for extent in shape):
            return None
        return shapes[0], shapes[1]

    def _signature(self) -> inspect.Signature:
        kinds = inspect.Parameter
        given = [kinds(name, kinds.POSITIONAL_OR_KEYWORD) for name in self._names if name.isidentifier()]
        given += [
            kinds("initial_state", kinds.KEYWORD_ONLY, default=None),
            kinds("output_final_state", kinds.KEYWORD_ONLY, default=False),
            kinds("cu_seqlens", kinds.KEYWORD_ONLY, default=None),
        ]
        return inspect.Signature(given)

    def _documentation(self) -> str:
        head = [line[1:].strip() for line in self.source.splitlines() if line.startswith("#")]
        lines = [self.name, "", *head, *([""] if head else [])]
        lines += [f"{tensor.role} {tensor.name} : [{','.join(tensor.shape)}] {tensor.dtype}" for tensor in self._all]
        lines += [f"state {name} : [{','.join(shape)}]" for name, shape in self._facts["states"]]
        lines += [f"output {name} : [{','.join(shape)}]" for name, shape in self._facts["outputs"]]
        return "\n".join(lines)

    def __str__(self) -> str:
        tensors = [f"{one.role:6} {one.name} : [{','.join(one.shape)}] {one.dtype}" for one in self._all + self.outputs]
        states = [f"state  {one.name} : [{','.join(one.shape)}]  transition: {one.transition}" for one in self.states]
        forms = [f"form   {name}" + (f": no, {why}" if why else "") for name, why in self.forms.items()]
        return "\n".join([f"variant {self.name}", *tensors, *states, *forms])

    def __repr__(self) -> str:
        return f"<chunkwise variant {self.name}({', '.join(self._names)})>"

    def __reduce__(self) -> tuple[Any, ...]:
        return of_key, (self._key,)


def _packer(name: str, fields: list[str]) -> Any:
    return namedtuple(name, fields, rename=True)


def _dims(sizes: Mapping[str, int]) -> list[str]:
    return [word for name, size in sizes.items() for word in ("--dim", f"{name}={size}")]


def _evaluated(size: str, sizes: Mapping[str, Any]) -> Any:
    """A size in the language's terms (`2*K`, `(T div C)`); None if it has an axis that is not known."""
    try:
        return eval(size.replace(" div ", "//").replace(" mod ", "%"), {"__builtins__": {}}, dict(sizes))
    except NameError:
        return None
