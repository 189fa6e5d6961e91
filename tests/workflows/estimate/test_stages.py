"""How an estimate changes with what it is asked about."""

import pytest

from numprune_export.workflows.estimate.work import Work

RATES = {
    "layers": 1e-11, "layers_back": 1e-11, "products": 1e-11, "weights": 1e-10, "grams": 1e-11, "attention": 2e-11, "attention_back": 4e-11,
    "activation": 1e-9, "elementwise": 1e-10, "calls": 1e-5, "products64": 4e-11,
    "cholesky": 5e-11, "eigen": 1e-9, "memory64": 1e-10, "files": 1e-9,
    "hashes": 1e-9, "transfers": 1e-10, "dequantise": 1e-8, "processes": 5.0, "headers": 0.3, "stages": 0.2,
}  # fmt: skip
"""Those of some machine."""


def seconds(job):
    return {step.name: step.work.seconds(RATES) for step in job.steps()}


def memory(job):
    return {step.name: step.memory for step in job.steps()}


PRESETS = ("best", "fast", "paper-numerical")


@pytest.mark.parametrize("preset", PRESETS)
def test_twice_the_text_takes_calibration_twice_as_long(job, preset):
    score = {"score": {"method": "fisher_obs", "sequences": 1024}} if preset == "best" else {}
    few, many = (
        job(method=preset, sequences=count, generated_text=0, **score).steps()
        for count in (400, 800)
    )
    for single, two in zip(few, many, strict=True):
        if single.name != ("score" if preset == "paper-numerical" else "calibrate"):
            continue
        for kind in ("layers", "grams", "attention", "activation", "elementwise"):
            assert two.work.amounts[kind] == pytest.approx(2 * single.work.amounts[kind])
        assert two.work.amounts["files"] == single.work.amounts["files"]


def test_twice_the_text_of_an_encoder_takes_its_gradients_twice_as_long(encoder_job):
    few, many = (
        encoder_job(method="paper-fisher", sequences=count).steps()[1] for count in (64, 128)
    )
    assert few.name == "gradients"
    for kind in ("layers_back", "attention_back", "elementwise"):
        assert many.work.amounts[kind] == pytest.approx(2 * few.work.amounts[kind])


def test_fast_is_cheaper_than_best_in_every_stage(job):
    fast, best = seconds(job(method="fast")), seconds(job(method="best"))
    assert best.keys() - fast.keys() == {"write-text", "gradients"}
    assert all(fast[name] <= best[name] for name in fast)
    assert sum(fast.values()) < sum(best.values())
    assert max(memory(job(method="fast")).values()) < max(memory(job(method="best")).values())


@pytest.mark.parametrize("preset", PRESETS)
def test_more_layers_take_more_of_everything(job, preset):
    few, many = job(method=preset, layers=2), job(method=preset, layers=4)
    for find in (seconds, memory):
        assert all(find(few)[name] < find(many)[name] for name in find(few))


@pytest.mark.parametrize("repair", ["scalar", "refit", "closed_form", "bias", "none"])
def test_every_repair_of_an_encoder_has_its_cost(encoder_job, repair):
    plain = encoder_job(score="fisher", allocate="search", compensate="none")
    repaired = encoder_job(score="fisher", allocate="search", compensate=repair)
    least, taken = seconds(plain)["prune"], seconds(repaired)["prune"]
    assert taken == least if repair == "none" else taken > least


@pytest.mark.parametrize(
    "score", ["numerical", "wanda", "flap", "fisher_obs", "stat", "magnitude", "random"]
)
def test_every_score_has_its_cost(job, score):
    allocate = {"allocate": "curves"} if score == "fisher_obs" else {}
    least, taken = seconds(job(score="magnitude")), seconds(job(score=score, **allocate))
    assert (taken["score"] > least["score"]) == (score not in ("magnitude", "random"))
    assert ("calibrate" in taken) == (score == "fisher_obs")  # whose plans are tried out
    assert ("gradients" in taken) == (score == "fisher_obs")


def test_a_second_round_has_stages_of_its_own_and_works_on_less(job):
    taken = seconds(job(method="best", rounds=2, keep=0.5))
    names = [
        "read",
        "write-text",
        "calibrate",
        "gradients",
        "score",
        "allocate-1",
        "calibrate-2",
        "gradients-2",
        "score-2",
        "allocate",
        "prune",
    ]
    assert [*taken] == names
    assert taken["score-2"] < taken["score"]
    assert sum(taken.values()) > sum(seconds(job(method="best", rounds=1, keep=0.5)).values())


def test_text_that_the_model_writes_costs_writing_and_calibrating(job):
    none, some, more = (seconds(job(method="best", generated_text=n)) for n in (0, 32, 64))
    assert [name for name in some if name not in none] == ["write-text"]
    floor = Work({"stages": 1.0}).seconds(RATES)
    assert 1.5 < (more["write-text"] - floor) / (some["write-text"] - floor) < 2.1


def test_shorter_texts_take_less_time_to_write_in_as_much_memory(job):
    own = {"sequences": 32}
    single, four = (
        job(method="best", generated_text=own | {"per_window": count}) for count in (1, 4)
    )
    assert [name for name in seconds(single) if seconds(single)[name] != seconds(four)[name]] == [
        "write-text"
    ]
    floor = Work({"stages": 1.0}).seconds(RATES)
    taken = [seconds(each)["write-text"] - floor for each in (single, four)]
    assert taken[1] < 0.5 * taken[0]
    assert memory(four)["write-text"] < 1.1 * memory(single)["write-text"]


def test_text_that_gradients_are_taken_on_costs_them_and_nothing_else(job):
    score, own = {"sequences": 10_000}, {"sequences": 32, "for_gradients": 0.0}
    alone, quarter = (
        seconds(job(method="best", score=score, generated_text=own | {"for_gradients": share}))
        for share in (0.0, 0.25)
    )
    assert [name for name in alone if alone[name] != quarter[name]] == ["gradients"]
    assert alone["gradients"] < quarter["gradients"]


def test_candidates_that_are_tried_out_count_each(job):
    def allocation(*candidates):
        settings = {"method": "curves", "attention": candidates}
        return seconds(job(score="fisher_obs", allocate=settings))["allocate"]

    single, two, three, four = (
        allocation(*some) for some in ([1.0], [1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0])
    )
    floor = Work({"stages": 1.0}).seconds(RATES)
    assert single < two
    assert four - three == pytest.approx(three - two)
    assert 2 * (three - two) < two - floor  # the dense model is asked too, once


def test_all_hidden_states_are_in_memory(job):
    few, many = memory(job(sequences=1000)), memory(job(sequences=3000))
    assert many["score"] - few["score"] == 2000 * 16 * 64 * 4


def test_producers_that_are_refitted_cost_the_repair_and_nothing_else(job):
    """Text by text, and the more of it they are fitted to, time and memory."""

    def of(producers, sequences=960):
        compensate = {"producers": producers}
        return job(method="best", compensate=compensate, sequences=sequences, generated_text=0)

    none, some, all_of_it = of(None), of({"token_stride": 3}), of({"token_stride": 1})
    assert [name for name in seconds(none) if seconds(none)[name] != seconds(some)[name]] == [
        "prune"
    ]
    assert seconds(none)["prune"] < seconds(some)["prune"] < seconds(all_of_it)["prune"]
    assert memory(some)["prune"] < memory(all_of_it)["prune"]
    twice = seconds(of({"token_stride": 3}, 1920))["prune"] - seconds(of(None, 1920))["prune"]
    assert twice == pytest.approx(2 * (seconds(some)["prune"] - seconds(none)["prune"]), rel=0.05)


def test_the_metric_of_fewer_gradients_than_outputs_is_taken_apart(job):
    few, many = (
        next(
            step.work.amounts
            for step in job(method="best", score={"sequences": count}).steps()
            if step.name == "score"
        )
        for count in (1, 32)  # 16 and 512 tokens, 64 outputs
    )
    assert few["eigen"] > 0
    assert many.get("eigen", 0) == 0
    assert many["cholesky"] > few.get("cholesky", 0)
