import pytest


def audit(guesses):
    return {"grid": {"variant": ["dpsgd"]}, "base": {"guesses": guesses}, "variant": {"dpsgd": {}}}


def audited(study, guesses=40, **settings):
    cell = {"mechanism": "dpsgd", "epochs": 20, "canaries": 80, "batch_size": 64, "learning_rate": 0.05} | settings
    cell["privacy"] = {"epsilon": 1.0, "delta": 1e-4, "clipping_norm": 0.01} | settings.get("privacy", {})
    study.parameters["toy"]["train"]["variant"]["dpsgd"] = cell
    # Room to learn canaries by heart.
    study.parameters["models"]["mean"]["hidden"] = 256
    study.parameters["toy"]["audit"] = audit(guesses)
    study.run("train", "dpsgd")
    code, said = study.run("audit", "dpsgd")
    assert code == 0
    return {name: entry["0"] for name, entry in study.metrics("audit", "dpsgd")["metrics"].items()}, said


def test_the_audit_of_what_is_private_refutes_nothing(study):
    found, said = audited(study)
    assert found["canaries/refuted"]["value"] == 0
    assert found["canaries/epsilon_lower_bound"]["value"] <= 1
    assert said == ""


@pytest.mark.parametrize("control", ["no_noise", "no_clipping"])
def test_the_audit_refutes_an_epsilon_whose_noise_or_clipping_is_off(study, control):
    found, said = audited(
        study, role="control", epochs=300, learning_rate=0.02, privacy={"control": control, "epsilon": 0.5}
    )
    assert found["canaries/refuted"]["value"] == 1
    assert found["canaries/epsilon_lower_bound"]["value"] > 0.5
    assert found["canaries/correct_guesses"]["n"] == 40
    assert "seed 0: the audit refutes epsilon 0.5: at 95% it is above" in said


def test_the_audit_guesses_no_more_canaries_than_there_are(study):
    study.parameters["toy"]["train"]["variant"]["dpsgd"]["canaries"] = 10
    study.parameters["toy"]["audit"] = audit(guesses=12)
    study.done("train", "dpsgd")
    assert "toy.audit.base.guesses: 12 of 10 canaries" in study.refused("audit", "dpsgd")


def test_an_audit_writes_its_metrics_and_nothing_else(study):
    study.parameters["toy"]["train"]["variant"]["dpsgd"]["canaries"] = 20
    study.parameters["toy"]["audit"] = audit(guesses=10)
    study.done("train", "dpsgd")
    before = set(study.files())
    content = study.done("audit", "dpsgd")
    assert set(study.files()) - before == {"reports/metrics/toy/dpsgd/audit.json"}
    assert set(content["metrics"]) == {
        "canaries/correct_guesses",
        "canaries/epsilon_lower_bound",
        "canaries/refuted",
    }


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"guesses": 3}, "toy.audit.base.guesses: 3 is not allowed; input should be a multiple of 2"),
        ({"guesses": 0}, "toy.audit.base.guesses: 0 is not allowed; input should be greater than or equal to 2"),
        ({"guesses": 4, "guess": 4}, "toy.audit.base.guess: no such setting; allowed: dataset, guesses, seeds"),
        ({"guesses": 4}, "data/models/toy/dpsgd/0/canaries.parquet: no such file; run `dvc repro`"),
    ],
)
def test_a_wrong_input_is_one_line(study, base, message):
    study.parameters["toy"]["audit"] = audit(guesses=4) | {"base": base}
    study.done("train", "dpsgd")
    assert message in study.refused("audit", "dpsgd")
