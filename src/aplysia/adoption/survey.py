"""What becomes of each parameter of a model, and the refusal of those that nothing is known of."""

from __future__ import annotations

import io
from dataclasses import dataclass

from torch import Tensor, nn

from aplysia.adoption.libraries.base import AbstractLibrary
from aplysia.adoption.trace import Trace, library_of, owners
from aplysia.adoption.view import AdoptedNet, AdoptedSite, AdoptedWeight
from aplysia.errors import PairError
from aplysia.train.log import table

_NORMS = (
    nn.modules.batchnorm._NormBase,  # the one base of all batch and instance norms
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


@dataclass(frozen=True)
class Row:
    """A line of the report.

    Attributes:
        name: of the module.
        kind: its class.
        parameters: how many numbers.
        becomes: what the rule makes of it.
    """

    name: str
    kind: str
    parameters: int
    becomes: str


@dataclass(frozen=True)
class Report:
    """What became of each part of a model; `print` it, or go through its rows."""

    title: str
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        out = io.StringIO()
        table(
            [
                [row.name or "(the model)", row.kind, f"{row.parameters:,}" if row.parameters else "", row.becomes]
                for row in self.rows
            ],
            ["module", "class", "parameters", "becomes"],
            self.title,
            out=out,
        )
        return out.getvalue().rstrip("\n")


def survey(
    model: nn.Module,
    trace: Trace,
    libraries: list[AbstractLibrary],
    target: Tensor | None,
    *,
    at: tuple[str, ...],
    leave: tuple[str, ...],
    readout: str | None,
) -> AdoptedNet:
    """The weights and sites of a model.

    Raises:
        PairError: a parameter that learns in a way we cannot read, all of them named at once; a name that is not there.
    """
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    for what, names in (("at", at), ("leave", leave), ("readout", () if readout is None else (readout,))):
        unknown = [name for name in names if name not in modules and name not in parameters]
        if unknown:
            raise PairError(
                f"adopt({what}=…)",
                expected="names of modules within the model, as named_modules() gives them",
                got=", ".join(unknown),
                fix=f"choose from {', '.join(name for name in modules if name)}",
            )
    _refuse_leftovers(model, trace, libraries, leave)
    weights = _weights(model, trace, leave)
    if not weights:
        raise PairError(
            "adopt",
            expected="a model with weights that a batch runs through",
            got=f"{type(model).__name__}, in which forward met none",
            fix="let forward run the model it is given, and leave fewer modules out",
        )
    chosen = weights[-1]
    if readout is not None:
        mine = [weight for weight in weights if weight.name == readout]
        if not mine:
            raise PairError(
                "adopt(readout=…)",
                expected=f"a module with weights, of {', '.join(weight.name for weight in weights)}",
                got=readout,
                fix="name one of those",
            )
        chosen = mine[0]
    return AdoptedNet(
        synapses=weights, hidden=_sites(model, trace, libraries, weights, chosen, target, at), readout=chosen
    )


def _weights(model: nn.Module, trace: Trace, leave: tuple[str, ...]) -> list[AdoptedWeight]:
    parameters = dict(model.named_parameters())
    names = [name for name in sorted(trace.met, key=lambda name: trace.met[name].place) if not _left(name, leave)]
    modules = [name.rpartition(".")[0] for name in names]
    made = []
    for name, module in zip(names, modules, strict=True):
        met = trace.met[name]
        weight = parameters[name]
        assert isinstance(weight, nn.Parameter)
        made.append(
            AdoptedWeight(
                name=module if module and modules.count(module) == 1 else name,
                weight=weight,
                geometry=met.call.geometry,
                drive_shape=tuple(met.call.drive.shape[-met.call.axes :]),
                current_shape=tuple(met.shape[-met.call.axes :]),
                fed=met.fed,
            )
        )
    return made


def _sites(
    model: nn.Module,
    trace: Trace,
    libraries: list[AbstractLibrary],
    weights: list[AdoptedWeight],
    readout: AdoptedWeight,
    target: Tensor | None,
    at: tuple[str, ...],
) -> list[AdoptedSite]:
    places = {id(p): trace.met[name].place for name, p in model.named_parameters() if name in trace.met}
    end = places[id(readout.weight)]
    made: list[tuple[int, AdoptedSite]] = []
    for name, module in model.named_modules():
        library = library_of(libraries, module)
        wanted = name in at if at else library is not None and library.spikes(module)
        if not wanted:
            continue
        ran = trace.ran.get(name)
        if ran is None or ran.shape is None:
            if name in at:
                raise PairError(
                    f"adopt(at=…), {name}",
                    expected="a module that runs and gives a tensor, or a tuple that begins with one",
                    got="none" if ran is None else "something else",
                    fix="name a spiking module",
                )
            continue
        if ran.place > end:
            if name in at:
                raise PairError(
                    f"adopt(at=…), {name}",
                    expected=f"a module that runs before the readout, {readout.name}",
                    got="one behind it, whose error is exact anyway",
                    fix="leave it out, or say readout=…",
                )
            continue
        before = [weight for weight in weights if places[id(weight.weight)] < ran.place]
        whole = _whole(module, library, ran.shape, target)
        site = AdoptedSite(
            name=name,
            weight=(before or weights)[-1].weight,
            output_shape=tuple(ran.shape[2 if whole else 1 :]),
            whole_sequence=whole,
        )
        made.append((ran.place, site))
    for weight in weights:
        behind = [pair for pair in made if pair[0] > places[id(weight.weight)]]
        weight.site = min(behind, key=lambda pair: pair[0])[1].name if behind else None
    return [site for _, site in sorted(made, key=lambda pair: pair[0])]


def _whole(module: nn.Module, library: AbstractLibrary | None, shape: tuple[int, ...], target: Tensor | None) -> bool:
    if library is not None:
        return library.whole_sequence(module)
    return target is not None and len(shape) > 1 and shape[0] != len(target) and shape[1] == len(target)


def _left(name: str, leave: tuple[str, ...]) -> bool:
    return any(name == entry or name.startswith(entry + ".") for entry in leave)


def _refuse_leftovers(model: nn.Module, trace: Trace, libraries: list[AbstractLibrary], leave: tuple[str, ...]) -> None:
    biases, leftovers = _biases(model, trace), dict[str, list[str]]()
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for name, path in owners(model).items():
        readable = name in trace.met or name in biases or _by_itself(path, libraries) is not None
        if name in trace.learnt and not readable and not _left(name, leave):
            leftovers.setdefault(path[0][0], []).append(name)
    if not leftovers:
        return
    modules = dict(model.named_modules())
    listed = "; ".join(
        f"{module or 'the model itself'} ({type(modules[module]).__name__}): "
        + ", ".join(f"{name.rpartition('.')[2]} {shapes[name]}" for name in names)
        for module, names in leftovers.items()
    )
    asked = ", ".join(f'"{name}"' for module, names in leftovers.items() for name in ([module] if module else names))
    raise PairError(
        "adopt",
        expected="weights that are met in calls we can read, norms, and neurons of libraries we know",
        got=f"also {listed}",
        fix=f"say leave=({asked},) and they learn by plain autograd, or calls=(…,) with an aplysia.AbstractCall that reads "
        "how such a weight is met",
    )


def _biases(model: nn.Module, trace: Trace) -> set[str]:
    """Parameters that came with a weight we can read."""
    modules = {name.rpartition(".")[0] for name in trace.met}
    return {
        name
        for name, p in model.named_parameters()
        if name.rpartition(".")[0] in modules and name.rpartition(".")[2].startswith("bias") and p.ndim == 1
    }


def _by_itself(path: list[tuple[str, nn.Module]], libraries: list[AbstractLibrary]) -> str | None:
    """What learns inside a module we know, by the gradient that reaches it."""
    if isinstance(path[0][1], _NORMS):
        return "norm"
    return "neuron" if any(library_of(libraries, module) for _, module in path) else None


def report(
    model: nn.Module,
    trace: Trace,
    libraries: list[AbstractLibrary],
    net: AdoptedNet,
    *,
    leave: tuple[str, ...],
    rule: str,
    chained: bool,
    cuts: bool,
    sites: bool,
) -> Report:
    """What became of each module that has parameters or is a site."""
    own = owners(model)
    by_parameter = {id(weight.weight): weight for weight in net.synapses}
    hidden = {site.name for site in net.hidden} if sites else set()
    rows: list[Row] = []
    for module_name, module in model.named_modules():
        names = [name for name in own if own[name][0][0] == module_name]
        if not names and module_name not in hidden:
            continue
        numbers = sum(p.numel() for p in module.parameters(recurse=False))
        mine = [by_parameter[id(p)] for p in module.parameters(recurse=False) if id(p) in by_parameter]
        said = [_weight_row(weight, net, chained, cuts) for weight in mine]
        for name in names:
            others = trace.elsewhere.get(name, set())
            if name in trace.met and others and not _left(name, leave):
                said.append(
                    f"{name.rpartition('.')[2]} is also taken by {', '.join(sorted(others))}, which stays plain autograd"
                )
        if module_name in hidden:
            said.append("site: " + ("cut here, its error is planted" if cuts else "noise and local errors enter here"))
        left = [name for name in names if _left(name, leave)]
        if left:
            said.append("left to plain autograd, as asked")
        elif names and not mine:
            said.append(_rest(names, own, trace, libraries))
        rows.append(Row(module_name, type(module).__name__, numbers, "; ".join(said)))
    return Report(f"{type(model).__name__} under {rule}", tuple(rows))


def _weight_row(weight: AdoptedWeight, net: AdoptedNet, chained: bool, cuts: bool) -> str:
    if chained:
        return (
            f"{weight.weight.numel():,} words of feedback" if weight.fed else "weights below which no error is needed"
        )
    if weight is net.readout:
        return "readout, by its exact gradient"
    return "weights that learn from the next site's error" if cuts else "weights"


def _rest(
    names: list[str], own: dict[str, list[tuple[str, nn.Module]]], trace: Trace, libraries: list[AbstractLibrary]
) -> str:
    if not any(name in trace.learnt for name in names):
        return "not used by the loss, learns nothing"
    if _by_itself(own[names[0]], libraries) == "norm":
        return "plain autograd; errors pass its gain as they would in backpropagation"
    return "plain autograd inside the neuron"
