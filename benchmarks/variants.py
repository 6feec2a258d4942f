"""How variants of a recipe compare on films their models never saw, and on such films altered.

    python benchmarks/variants.py --pool POOL --model BUNDLE --data FOLDER
    python -m cxr_core cross-validate benchmarks/recipes/blur160.yaml --data POOL --folds 2
    python benchmarks/variants.py RUN... --data POOL --chosen NAME [--films 300] [--out FILE]

The first makes a folder with the films of FOLDER but those that BUNDLE was tested on: any
model of the recipe, as its seed and fractions decide which films these are. So a recipe is chosen
without a film of its own test part.

RUN is a finished cross-validation, one a variant, all of the same films and folds; NAME is the
variant that a recipe was made of. FILE, beside that recipe, takes the table as the recipe's models
carry it. The figures as the films are come from the cross-validations themselves, over all films.
Then each fold's model answers for FILMS of the films it never saw, the classes equally, as another
hospital might have made them: exposed, processed, sharpened, blurred, collimated or stored
otherwise. Windowing by percentile, equalisation, sharpening and compression are of kinds that no
variant trains with; changes of gamma, contrast, blur, noise and crop are, at other strengths, among
those that some do. A balanced accuracy is the mean of sensitivity and specificity at the threshold
that a fold's model carries, over the films of all folds.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from cxr_core import images  # noqa: E402  found by the line above
from cxr_core.config import settings  # noqa: E402
from cxr_core.diagnosis import bundle  # noqa: E402
from cxr_core.diagnosis.bundle import Estimate, RecipeSelection, Variant  # noqa: E402
from cxr_core.diagnosis.predictor import Predictor  # noqa: E402
from cxr_core.evaluation import metrics  # noqa: E402
from cxr_core.training import folds, recipes  # noqa: E402
from cxr_core.training.tracking import TAG_DATA, TAG_RECIPE, Kind, RunStore  # noqa: E402

RECIPES = REPOSITORY / "benchmarks" / "recipes"

NATIVE = 224  # px, side at which films are altered

Alter = Callable[[np.ndarray], np.ndarray]  # uint8 (h, w) to the same


def _curve(exponent: float) -> Alter:
    table = (255 * (np.arange(256) / 255) ** exponent).round().astype(np.uint8)
    return lambda film: cv2.LUT(film, table)


def _flat(film: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(film, alpha=0.6, beta=51)


def _stretched(film: np.ndarray) -> np.ndarray:
    low, high = np.percentile(film, (2, 98))
    return np.clip((film - low) * 255 / max(high - low, 1), 0, 255).astype(np.uint8)


def _sharpened(film: np.ndarray) -> np.ndarray:
    return cv2.addWeighted(film, 2.0, cv2.GaussianBlur(film, (0, 0), 3), -1.0, 0)


def _blurred(film: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(film, (0, 0), 1.5)


def _grainy(film: np.ndarray) -> np.ndarray:
    grain = np.random.default_rng(0).normal(0, 10, film.shape)
    return np.clip(film + grain, 0, 255).astype(np.uint8)


def _tight(film: np.ndarray) -> np.ndarray:
    height, width = film.shape
    top, left = height // 10, width // 10
    return cv2.resize(film[top : height - top, left : width - left], (width, height))


def _wide(film: np.ndarray) -> np.ndarray:
    height, width = film.shape
    black = np.zeros_like(film)
    small = cv2.resize(film, (round(0.85 * width), round(0.85 * height)), interpolation=3)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    black[top : top + small.shape[0], left : left + small.shape[1]] = small
    return black


def _compressed(film: np.ndarray) -> np.ndarray:
    data = cv2.imencode(".jpg", film, (cv2.IMWRITE_JPEG_QUALITY, 20))[1]
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


ALTERED: Mapping[str, Alter] = {
    "gamma 0.6": _curve(0.6),
    "gamma 1.6": _curve(1.6),
    "contrast x 0.6": _flat,
    "window 2nd to 98th percentile": _stretched,
    "histogram equalised": cv2.equalizeHist,
    "unsharp mask, sigma 3 px": _sharpened,
    "blur, sigma 1.5 px": _blurred,
    "noise, 10 gray levels": _grainy,
    "inner 80 % of the width and height": _tight,
    "85 % of the size on black": _wide,
    "JPEG of quality 20": _compressed,
}


def altered(parent: str, data: Path, films: int, store: RunStore) -> dict[str, dict[str, float]]:
    """Return the figures of a cross-validation's models on altered films, by alteration."""
    labels: list[np.ndarray] = []
    called: dict[str, list[np.ndarray]] = {name: [] for name in ALTERED}
    ranked: dict[str, list[np.ndarray]] = {name: [] for name in ALTERED}
    for run in folds.by_number(folds.children(parent, store)).values():
        folder = store.path(run.run_id, "bundle")
        info, predictor = bundle.read(folder), Predictor(folder)
        table = bundle.read_splits(folder)
        table = table[table["split"] == "test"]
        chosen = table.groupby("label").sample(films // len(info.classes), random_state=0)
        plain = [
            images.read_square((data / path).read_bytes(), path, size=NATIVE, fit="squash")
            for path in chosen["path"]
        ]
        labels.append(np.array([info.classes.index(label) for label in chosen["label"]]))
        for name, alter in ALTERED.items():
            squares = np.stack(
                [
                    images.to_square(
                        alter(film), info.image.size, info.image.fit, clahe=info.image.clahe
                    )
                    for film in plain
                ]
            )
            probability = metrics.probabilities(
                metrics.expand_logits(predictor.logits(squares)), info.temperature
            )
            score = metrics.abnormal(probability)
            ranked[name].append(score)
            called[name].append(score >= info.threshold.value)
    ill = np.concatenate(labels) > 0
    figures = {}
    for name in ALTERED:
        finding, score = np.concatenate(called[name]), np.concatenate(ranked[name])
        sensitivity, specificity = float(finding[ill].mean()), float((~finding[~ill]).mean())
        figures[name] = {
            "auc": metrics.auroc(ill.astype(int), np.stack([1 - score, score], axis=1)),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "balanced_accuracy": (sensitivity + specificity) / 2,
        }
    return figures


def measure(
    parent: str, data: Path, films: int, store: RunStore
) -> tuple[Variant, RecipeSelection]:
    """Return one variant's figures, and what all variants must have in common."""
    record = store.find(parent)
    if record.kind is not Kind.FOLDS:
        raise SystemExit(f"{parent} is no cross-validation.")
    summary = folds.summary(record, store)
    if summary is None or summary["missing"]:
        raise SystemExit(f"{record.name} lacks folds.")
    pooled, recipe = summary["pooled"], record.tags[TAG_RECIPE]
    figures = altered(record.run_id, data, films, store)
    for name, each in figures.items():
        shown = ", ".join(f"{key} {value:.3f}" for key, value in each.items())
        print(f"{recipe}, {name}: {shown}", file=sys.stderr)

    def estimate(key: str) -> Estimate:
        return Estimate(value=pooled[key], ci95=pooled["ci95"][key])

    def mean(key: str) -> float:
        return float(np.mean([each[key] for each in figures.values()]))

    variant = Variant(
        name=recipe,
        words=_words(recipe),
        auc=estimate("auc"),
        balanced_accuracy=estimate("balanced_accuracy"),
        ece=estimate("ece"),
        altered_auc=mean("auc"),
        altered_balanced_accuracy=mean("balanced_accuracy"),
        altered_worst=min(each["balanced_accuracy"] for each in figures.values()),
    )
    return variant, RecipeSelection(
        chosen="",
        data=record.tags[TAG_DATA],
        films=pooled["n"],
        folds=summary["folds"],
        altered_films=films
        // len(pooled["per_class"])
        * len(pooled["per_class"])
        * summary["folds"],
        alterations=tuple(ALTERED),
        variants=(),
    )


def _words(recipe: str) -> str:
    if recipe in recipes.names():
        return recipes.describe(recipe)
    first, *_ = (RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8").splitlines()
    return first.removeprefix("#").strip()


def _added(recipe: str, chosen: str) -> tuple[str, ...]:
    """Return in words where a recipe differs from its variant, the choice of films apart."""
    made = recipes.load(recipe).model_dump()
    path = RECIPES / f"{chosen}.yaml"
    variant = recipes.load(str(path) if path.is_file() else chosen).model_dump()
    return tuple(
        f"{setting.path} {made[setting.section][field]}"
        for setting in settings()
        if setting.section and setting.section != "data"
        for field in [setting.path.rpartition(".")[2]]
        if made[setting.section][field] != variant[setting.section][field]
    )


def make_pool(pool: Path, model: Path, data: Path) -> None:
    """Copy the films of a folder but a bundle's test films into a new folder."""
    table = bundle.read_splits(model)
    for path in table.loc[table["split"] != "test", "path"]:
        copied = pool / path
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / path, copied)
    tested = int((table["split"] == "test").sum())
    print(f"{len(table) - tested:,} films in {pool}; {tested:,} test films left out.")


def main() -> None:
    """Print the table, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", help="finished cross-validations, one a variant")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pool", type=Path, help="only make this folder, without test films")
    parser.add_argument("--model", type=Path, help="the bundle whose test films stay out of it")
    parser.add_argument("--chosen", help="the variant that became the recipe")
    parser.add_argument("--films", type=int, default=300, help="of each fold, for the alterations")
    parser.add_argument("--out", type=Path, help="a recipe's NAME.selection.json")
    given = parser.parse_args()
    if given.pool:
        if not given.model:
            parser.error("--pool needs --model")
        make_pool(given.pool, given.model, given.data)
        return
    if not given.runs or not given.chosen:
        parser.error("name the cross-validations, and --chosen")
    store = RunStore()
    variants, common = zip(
        *(measure(run, given.data, given.films, store) for run in given.runs), strict=True
    )
    if any(each != common[0] for each in common):
        raise SystemExit("These cross-validations are of different films or folds.")
    if given.chosen not in {each.name for each in variants}:
        raise SystemExit(f"No variant is called {given.chosen}.")
    found = common[0].model_copy(update={"chosen": given.chosen, "variants": variants})
    if given.out:
        recipe = given.out.name.partition(".")[0]
        found = found.model_copy(update={"added": _added(recipe, given.chosen)})
        given.out.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    print("| variant | AUROC | balanced accuracy | ECE | altered: AUROC | balanced | worst |")
    print("|---|---|---|---|---|---|---|")
    for each in variants:
        cells = [
            f"{shown.value:.3f} ({shown.ci95[0]:.3f}-{shown.ci95[1]:.3f})"
            for shown in (each.auc, each.balanced_accuracy, each.ece)
        ]
        cells += [
            f"{value:.3f}"
            for value in (each.altered_auc, each.altered_balanced_accuracy, each.altered_worst)
        ]
        print(f"| {each.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
