//! Tables with one fault each, and the text that names it.

use schemars::JsonSchema;
use serde::Serialize;

use super::*;

#[derive(Clone, Serialize, JsonSchema)]
struct Config {
    /// Name of the run. Its folder has this name.
    #[schemars(length(min = 1))]
    name: String,
    optim: Optim,
    judge: Judge,
    votes: Votes,
}

#[derive(Clone, Serialize, JsonSchema)]
struct Optim {
    #[schemars(extend("exclusiveMinimum" = 0))]
    lr: f64,
    #[schemars(range(min = 1))]
    steps: u32,
    offset: f64,
    #[schemars(inner(length(min = 1)))]
    stop: Vec<String>,
    is_on: bool,
    schedule: Schedule,
    #[schemars(length(min = 1))]
    schedules: Vec<Schedule>,
}

#[derive(Clone, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is read")]
enum Schedule {
    Constant,
    Cosine,
}

#[derive(Clone, Serialize, JsonSchema)]
struct Judge {
    #[serde(flatten)]
    kind: Kind,
    temperature: f64,
}

#[derive(Clone, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is read")]
enum Kind {
    Engine { model: String, max_batch: u32 },
    Replay { dump: String },
    Rule,
}

#[derive(Clone, Serialize, JsonSchema)]
struct Votes {
    max: u32,
}

fn config() -> Config {
    Config {
        name: "a".to_owned(),
        optim: Optim {
            lr: 1e-3,
            steps: 1,
            offset: 0.0,
            stop: Vec::new(),
            is_on: true,
            schedule: Schedule::Cosine,
            schedules: vec![Schedule::Cosine],
        },
        judge: Judge { kind: Kind::Rule, temperature: 0.6 },
        votes: Votes { max: 1 },
    }
}

const RENAMED: [(&str, &str); 2] =
    [("optim.rate", "optim.lr"), ("judge.http.url", "judge.servers")];

fn found(text: &str) -> Vec<String> {
    let table = text.parse::<Table>().unwrap();
    let problems = problems(&table, &ConfigKeys::of::<Config>(), &RENAMED);
    problems.iter().map(KeyProblem::to_string).collect()
}

#[test]
fn check_names_each_fault_by_its_dotted_key() {
    for (text, wanted) in [
        ("optim.steps = 0", "optim.steps is 0, wanted at least 1"),
        ("optim.steps = -3", "optim.steps is -3, wanted at least 1"),
        ("optim.steps = 4294967296", "optim.steps is 4294967296, wanted at most 4294967295"),
        ("optim.steps = 1.5", "optim.steps is 1.5, wanted an integer"),
        ("optim.lr = 0", "optim.lr is 0, wanted above 0"),
        ("optim.lr = -2.50", "optim.lr is -2.5, wanted above 0"),
        ("optim.lr = -1e-300", "optim.lr is -1e-300, wanted above 0"),
        ("optim.lr = -1e30", "optim.lr is -1e30, wanted above 0"),
        ("optim.lr = nan", "optim.lr is nan, wanted above 0"),
        ("optim.lr = inf", "optim.lr is inf, wanted above 0"),
        ("optim.offset = -inf", "optim.offset is -inf, wanted a finite number"),
        ("optim.lr = \"fast\"", "optim.lr is \"fast\", wanted a number"),
        ("optim.is_on = 1", "optim.is_on is 1, wanted true or false"),
        ("optim.stop = \"a\"", "optim.stop is \"a\", wanted a list"),
        (
            "optim.stop = [\"a\", \"\"]",
            "optim.stop[1] is an empty text, wanted at least one character",
        ),
        ("optim.stop = [1]", "optim.stop[0] is 1, wanted a text"),
        ("name = 1", "name is 1, wanted a text"),
        ("name = \"\"", "name is missing, wanted: name of the run"),
        (
            "optim.schedule = \"cosin\"",
            "optim.schedule is \"cosin\", wanted one of constant, cosine; did you mean \"cosine\"?",
        ),
        (
            "optim.schedules = []",
            "optim.schedules is an empty list, wanted at least one of constant, cosine",
        ),
        ("optim.schedule = 3", "optim.schedule is 3, wanted one of constant, cosine"),
        ("optim.stpes = 3", "optim.stpes is an unknown key; did you mean optim.steps?"),
        ("name = \"a\"\nlr = 1", "lr is an unknown key; did you mean optim.lr?"),
        ("optim.learning_rate = 3", "optim.learning_rate is an unknown key"),
        ("optim.rate = 3", "optim.rate has a new name: optim.lr"),
        ("judge.http.url = 3", "judge.http.url has a new name: judge.servers"),
        (
            "judge.kind = \"rule\"\njudge.dump = \"d\"",
            "judge.dump is a key of judge.kind = \"replay\", but judge.kind is \"rule\"",
        ),
        (
            "judge.kind = \"rul\"",
            "judge.kind is \"rul\", wanted one of engine, replay, rule; did you mean \"rule\"?",
        ),
        (
            "judge.kind = \"replay\"\njudge.dmp = \"d\"",
            "judge.dmp is an unknown key; did you mean judge.dump?",
        ),
    ] {
        assert_eq!(found(text), [wanted], "{text}");
    }
}

#[test]
fn check_says_the_same_of_a_number_as_it_is_written_and_as_it_is_read() {
    for (written, read) in [("-1", -1.0), ("-3.0", -3.0), ("-1e-9", -1e-9), ("-7e20", -7e20)] {
        let mut typed = config();
        typed.optim.lr = read;
        let said = validate(&typed, &ConfigKeys::of::<Config>());
        assert_eq!(said, found(&format!("optim.lr = {written}")), "{written}");
    }
}

#[test]
fn check_reports_all_problems_at_once() {
    let text =
        "nam = 1\n[optim]\nlr = -1\nsteps = \"x\"\n[judge]\nkind = \"engine\"\nmax_batch = -1";
    assert_eq!(found(text).len(), 4, "{:?}", found(text));
}

#[test]
fn check_leaves_good_tables_and_short_forms_alone() {
    assert!(found("optim.lr = 1\nvotes = 3").is_empty());
    assert!(found("judge.kind = \"engine\"\njudge.model = \"m\"\njudge.max_batch = 3").is_empty());
}

#[test]
fn validate_reads_a_typed_config() {
    let keys = ConfigKeys::of::<Config>();
    assert!(validate(&config(), &keys).is_empty());
    let mut bad = config();
    bad.optim.lr = f64::NAN;
    bad.optim.steps = 0;
    bad.name.clear();
    assert_eq!(validate(&bad, &keys).len(), 3, "{:?}", validate(&bad, &keys));
}
