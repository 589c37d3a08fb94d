"""Tell three grape varieties apart by what a chemist measures, and let MLflow remember how.

178 wines, 13 measurements each: scikit-learn's copy of https://archive.ics.uci.edu/dataset/109/wine
"""

import argparse
import os

import matplotlib as mpl
import mlflow
from matplotlib.figure import Figure
from mlflow import MlflowClient, MlflowException
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import infer_signature
from sklearn.datasets import load_wine
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

mpl.use("Agg")  # draw into files: a machine that trains has no screen

MODEL, ALIAS = "wine", "champion"


def main() -> None:
    """Train one classifier; log how it went, the model, and whether it is the best so far."""
    options = arguments()
    wine = load_wine(as_frame=True)
    train_x, test_x, train_y, test_y = train_test_split(
        wine.data, wine.target, test_size=0.3, stratify=wine.target, random_state=options.seed
    )
    scaler = StandardScaler().fit(train_x)
    classifier = SGDClassifier(
        loss="log_loss",
        alpha=options.penalty,
        learning_rate="constant",
        eta0=options.rate,
        random_state=options.seed,
    )
    model = make_pipeline(scaler, classifier)

    with mlflow.start_run():
        if "MLFLOW_RUN_ID" not in os.environ:  # `mlflow run` has logged them already
            mlflow.log_params(vars(options))
        mlflow.set_tag("data", f"wine: {len(train_x)} to learn from, {len(test_x)} to test")

        losses = {"train_loss": [], "test_loss": []}
        for epoch in range(options.epochs):
            classifier.partial_fit(scaler.transform(train_x), train_y, classes=[0, 1, 2])
            losses["train_loss"].append(log_loss(train_y, model.predict_proba(train_x)))
            losses["test_loss"].append(log_loss(test_y, model.predict_proba(test_x)))
            mlflow.log_metrics({name: values[-1] for name, values in losses.items()}, step=epoch)

        predicted = model.predict(test_x)
        accuracy = accuracy_score(test_y, predicted)
        mlflow.log_metric("test_accuracy", accuracy)
        mlflow.log_figure(loss_curve(losses), "loss.png")
        mlflow.log_figure(confusion(test_y, predicted, wine.target_names), "confusion.png")

        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(train_x, predicted),
            input_example=train_x.head(2),
            registered_model_name=MODEL,
            # Named here, or MLflow spends half a minute finding them out.
            pip_requirements=["mlflow-skinny", "pandas", "scikit-learn", "skops"],
        )

    version = promote(logged.registered_model_version, accuracy)
    again = mlflow.pyfunc.load_model(f"models:/{MODEL}/{version.version}")
    assert (again.predict(test_x) == predicted).all(), "the server gave another model back"
    print(
        f"{MODEL} version {version.version}: {accuracy:.1%} of {len(test_x)} wines told apart",
        flush=True,
    )


def arguments() -> argparse.Namespace:
    """Return what `MLproject` or the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--rate", type=float, default=0.001, help="how fast it learns")
    parser.add_argument("--penalty", type=float, default=0.0001, help="on large weights")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def loss_curve(losses: dict[str, list[float]]) -> Figure:
    """Draw the losses over the epochs."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in losses.items():
        axes.plot(values, label=name)
    axes.set(xlabel="epoch", ylabel="log loss", title="Learning")
    axes.legend()
    return figure


def confusion(true, predicted, names) -> Figure:
    """Draw which variety was taken for which."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    ConfusionMatrixDisplay.from_predictions(
        true, predicted, display_labels=names, ax=figure.subplots(), colorbar=False
    )
    return figure


def promote(number: int, accuracy: float) -> ModelVersion:
    """Give the alias to a version of the model unless another one is better."""
    client = MlflowClient()
    client.set_model_version_tag(MODEL, number, "test_accuracy", f"{accuracy:.4f}")
    try:
        best = client.get_model_version_by_alias(MODEL, ALIAS)
    except MlflowException:  # the first version ever
        best = None
    if best is None or float(best.tags.get("test_accuracy", 0)) <= accuracy:
        client.set_registered_model_alias(MODEL, ALIAS, number)
    return client.get_model_version(MODEL, number)


if __name__ == "__main__":
    main()
