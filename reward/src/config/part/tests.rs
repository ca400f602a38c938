//! Parts as they are written in TOML, and what is refused.

use crate::config::RewardConfig;

fn config(text: &str) -> RewardConfig {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn parts_have_the_names_of_their_kinds_and_weigh_1() {
    let config = config(
        "combine = 'gdpo'\n\
         parts = [{ kind = 'judge', when = 'tied' }, { kind = 'correct', weight = 0.3 }, \
         { kind = 'command', name = 'mine', run = ['python3', 'a.py'], optional = true }]\n\
         [judge]\nkind = 'rule'",
    );
    assert_eq!(config.validate(), Vec::<String>::new());
    let names: Vec<(&str, f64, bool)> =
        config.parts.iter().map(|part| (part.name(), part.weight, part.optional)).collect();
    assert_eq!(names, [("judge", 1.0, false), ("correct", 0.3, false), ("mine", 1.0, true)]);
    let text = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<RewardConfig>(&text).unwrap(), config, "{text}");
}

#[test]
fn parts_that_make_no_sense_are_named_by_their_keys() {
    let parts = |parts: &str| format!("parts = [{parts}]\n[judge]\nkind = 'rule'");
    let (judge, correct) = ("{ kind = 'judge' }", "{ kind = 'correct' }");
    for (text, wanted) in [
        (format!("kind = 'correct'\n{}", parts(judge)), "kind and parts are both set"),
        ("combine = 'gdpo'\njudge.kind = 'rule'".to_owned(), "combine is set, but parts is empty"),
        (parts(&format!("{judge}, {judge}")), "parts[1].kind is judge, as that of parts[0]"),
        (parts(&format!("{correct}, {correct}")), "parts[1].name is \"correct\", as that of parts"),
        (
            parts("{ kind = 'correct', name = 'a b' }"),
            "parts[0].name is \"a b\", wanted at most 64",
        ),
        (parts("{ kind = 'judge', when = 'tied' }"), "parts[0].when is tied, but there is no"),
        (
            format!(
                "{}\n[rating]\nmethod = 'win_rate'",
                parts("{ kind = 'judge', value = 'rating' }")
            ),
            "parts[0].value is rating, but rating.method win_rate",
        ),
        (
            parts("{ kind = 'length', max_tokens = 5, buffer_tokens = 6 }"),
            "parts[0].buffer_tokens is 6, wanted at most max_tokens",
        ),
        (parts("{ kind = 'length' }"), "parts[0].max_tokens is 0, wanted at least 1"),
        (parts("{ kind = 'format' }"), "parts[0].pattern is missing"),
        (parts("{ kind = 'format', pattern = '(a' }"), "parts[0].pattern: unclosed group"),
        (parts("{ kind = 'command' }"), "parts[0].run is missing"),
        (parts("{ kind = 'command', run = [''] }"), "parts[0].run[0] is an empty text"),
        (
            parts("{ kind = 'command', run = ['a'], timeout_s = 0 }"),
            "parts[0].timeout_s is 0, wanted above 0",
        ),
        (parts("{ kind = 'http', url = 'host:80' }"), "parts[0].url is \"host:80\", wanted http"),
        (parts("{ kind = 'correct', weight = nan }"), "parts[0].weight is nan, wanted"),
        (parts("{ kind = 'correct', weight = 0 }"), "parts: each weight is 0"),
    ] {
        let problems = config(&text).validate();
        let has = problems.iter().any(|problem| problem.starts_with(wanted));
        assert!(has, "{wanted}: {problems:?}");
    }
}

#[test]
fn prompts_are_read_for_whoever_reads_them() {
    use joust_schema::prompt::PromptUse;

    let of = |parts: &str, judge: &str| {
        let config = config(&format!("parts = [{parts}]\n[judge]\nkind = '{judge}'"));
        (config.prompt_use(), config.needs_answers(), config.reads_rows())
    };
    let (judge, correct) = ("{ kind = 'judge' }", "{ kind = 'correct' }");
    let both = format!("{judge}, {correct}");
    assert_eq!(of(judge, "engine"), (PromptUse::Judge, false, false));
    assert_eq!(of(judge, "rule"), (PromptUse::Answers, true, false));
    assert_eq!(of(&both, "engine"), (PromptUse::JudgeAndAnswers, true, false));
    let optional = format!("{judge}, {{ kind = 'correct', optional = true }}");
    assert_eq!(of(&optional, "engine"), (PromptUse::JudgeAndAnswers, false, false));
    let command = "{ kind = 'command', run = ['a'] }";
    assert_eq!(of(command, "engine"), (PromptUse::Nothing, false, true));
}
