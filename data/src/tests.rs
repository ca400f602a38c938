//! Examples state true things, held-out problems stay out, and examples depend on their seed alone.

use std::collections::BTreeSet;

use joust_schema::seed::Seed;
use proptest::prelude::*;

use super::*;
use crate::draw::Draw;
use crate::working::work;

fn eval() -> TaskConfig {
    TaskConfig { split: Split::Eval, ..TaskConfig::default() }
}

/// The last run of digits of a text.
fn last_number(text: &str) -> Option<String> {
    let text = text.replace(',', "");
    let digits: Vec<&str> =
        text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
    digits.last().map(|&number| number.to_owned())
}

#[test]
fn work_writes_steps_as_on_paper() {
    let lines = |op, a, b| work(&ArithmeticProblem { op, a, b }, &mut |_| false).line();
    assert_eq!(lines(Op::Add, 47, 93), "47 + 93: 7+3=10, 4+9+1=14, so 140.");
    assert_eq!(lines(Op::Add, 347, 53), "347 + 53: 7+3=10, 4+5+1=10, 3+0+1=4, so 400.");
    assert_eq!(lines(Op::Sub, 103, 98), "103 - 98: 13-8=5, 9-9=0, 0-0=0, so 5.");
    assert_eq!(lines(Op::Mul, 47, 6), "47 * 6: 7*6=42, 4*6+4=28, so 282.");
    let forgetful = work(&ArithmeticProblem { op: Op::Add, a: 47, b: 93 }, &mut |_| true);
    assert_eq!(forgetful.line(), "47 + 93: 7+3=10, 4+9=13, so 30.");
    let forgetful = work(&ArithmeticProblem { op: Op::Sub, a: 52, b: 17 }, &mut |_| true);
    assert_eq!(forgetful.line(), "52 - 17: 12-7=5, 5-1=4, so 45.");
}

#[test]
fn work_without_mistakes_is_always_right() {
    for idx in 0..5000 {
        let problem = ArithmeticProblem::draw(&mut Draw::new(Seed::new(1).child("p", idx)));
        assert_eq!(work(&problem, &mut |_| false).value, problem.answer(), "{problem:?}");
    }
}

#[test]
fn policy_examples_are_right_in_about_half_of_the_cases() {
    let n = 5000;
    let is_right = |idx: &u64| {
        let example = policy_example(&TaskConfig::default(), Seed::new(2), *idx);
        last_number(&example.completion).as_deref() == Some(&example.answer)
    };
    let share = (0..n).filter(is_right).count() as f64 / n as f64;
    assert!((0.40..0.55).contains(&share), "{share}");
}

#[test]
fn problems_held_out_never_occur_in_training() {
    let numbers = |text: &str| -> BTreeSet<u32> {
        let parts = text.split(|c: char| !c.is_ascii_digit());
        parts.filter_map(|part| part.parse().ok()).collect()
    };
    let mut held_out = BTreeSet::new();
    for idx in 0..3000 {
        let mut draw = Draw::new(Seed::new(3).child("question", idx));
        let problem = eval().problem(&mut draw);
        assert_eq!(problem.split(), Split::Eval);
        held_out.insert((problem.op.symbol(), problem.a.min(problem.b), problem.a.max(problem.b)));
    }
    for idx in 0..3000 {
        let mut draw = Draw::new(Seed::new(3).child("other", idx));
        let problem = TaskConfig::default().problem(&mut draw);
        let key = (problem.op.symbol(), problem.a.min(problem.b), problem.a.max(problem.b));
        assert!(problem.op == Op::Sub || !held_out.contains(&key), "{problem:?}");
    }
    assert_eq!(numbers("Add 12 and 7."), BTreeSet::from([7, 12]));
}

#[test]
fn judge_pairs_are_labelled_by_their_final_numbers() {
    let mut counts = [0; 3];
    for idx in 0..4000 {
        let pair = judge_pair(&eval(), Seed::new(4), idx);
        for (text, right) in
            [(&pair.answer_first, pair.first_right), (&pair.answer_second, pair.second_right)]
        {
            // answers in words, and cut-off working, state no final number in digits
            let in_digits = last_number(text).is_some()
                && (text.contains("so ") || text.contains("answer") || !text.contains(':'));
            if in_digits {
                let seen = last_number(text).unwrap();
                assert_eq!(seen == pair.answer, right, "{text:?} {}", pair.answer);
            }
        }
        if pair.first_right != pair.second_right {
            assert_eq!(pair.verdict_first, pair.first_right);
        }
        let verdict = if pair.verdict_first { "1" } else { "2" };
        assert!(pair.thought.ends_with(&format!("\\boxed{{Assistant {verdict}}}")));
        assert!(pair.thought.contains(&format!("so {}.", pair.answer)));
        assert!(pair.thought.contains("Assistant 1 says"));
        let n_right = pair.thought.matches(" right.").count();
        let rights = usize::from(pair.first_right) + usize::from(pair.second_right);
        assert_eq!(n_right, rights, "{}", pair.thought);
        counts[rights] += 1;
    }
    let share = |count: i32| f64::from(count) / 4000.0;
    assert!((0.09..0.15).contains(&share(counts[0])), "{counts:?}");
    assert!((0.77..0.83).contains(&share(counts[1])), "{counts:?}");
}

#[test]
fn digits_sets_the_number_of_digits() {
    for digits in 1..=3 {
        let config = TaskConfig { digits: Some(digits), ..eval() };
        for idx in 0..50 {
            let problem = config.problem(&mut Draw::new(Seed::new(6).child("p", idx)));
            let lengths = [problem.a, problem.b].map(|number| number.to_string().len() as u32);
            assert_eq!(lengths, [digits; 2]);
        }
    }
    let config = TaskConfig { digits: Some(4), carry_forgotten: 2.0, ..eval() };
    assert_eq!(config.validate().len(), 2);
}

#[test]
fn plain_questions_and_shots_have_the_same_form() {
    let config = TaskConfig { digits: Some(2), op: Some(Op::Add), plain: true, ..eval() };
    let is_form = |text: &str| text.starts_with("What is ") && text.contains(" + ");
    for idx in 0..20 {
        assert!(is_form(&super::question(&config, Seed::new(1), idx).0));
        let (question, answer) = shot(&config, Seed::new(1), idx);
        let problem = question.strip_prefix("What is ").unwrap().strip_suffix('?').unwrap();
        assert!(answer.starts_with(problem), "{question} {answer}");
    }
}

#[test]
fn wild_wording_keeps_the_numbers() {
    let config = TaskConfig { wild: 1.0, ..TaskConfig::default() };
    let mut n_changed = 0;
    for idx in 0..500 {
        let pair = judge_pair(&config, Seed::new(8), idx);
        assert!(pair.thought.contains(&format!("so {}.", pair.answer)));
        n_changed += usize::from(pair != judge_pair(&TaskConfig::default(), Seed::new(8), idx));
        let mut draw = Draw::new(Seed::new(8).child("wild", idx));
        let problem = config.problem(&mut draw);
        let text = wild::answer(&problem, 987, &mut draw);
        assert_eq!(last_number(&text).as_deref(), Some("987"), "{text}");
        let text = wild::question(&problem, &mut draw);
        for number in [problem.a, problem.b] {
            assert!(text.contains(&number.to_string()), "{text}");
        }
    }
    assert_eq!(n_changed, 500);
}

#[test]
fn misleading_working_is_wrong_and_labelled_wrong() {
    let config = TaskConfig { misleading: 1.0, ..TaskConfig::default() };
    let mut n_other_problems = 0;
    for idx in 0..2000 {
        let pair = judge_pair(&config, Seed::new(9), idx);
        let n_right = pair.thought.matches(" right.").count();
        assert_eq!(n_right, usize::from(pair.first_right) + usize::from(pair.second_right));
        let head = pair.thought.split(':').next().unwrap();
        let is_other =
            |text: &str, right: bool| !right && text.contains(": ") && !text.contains(head);
        n_other_problems += usize::from(is_other(&pair.answer_first, pair.first_right));
    }
    assert!(n_other_problems > 100, "{n_other_problems}");
}

#[test]
fn words_writes_numbers_in_words() {
    assert_eq!(number::words(0), "zero");
    assert_eq!(number::words(47), "forty-seven");
    assert_eq!(number::words(340), "three hundred forty");
    assert_eq!(number::words(1998), "one thousand nine hundred ninety-eight");
}

proptest! {
    #[test]
    fn examples_depend_on_seed_and_index_alone(seed: u64, idx: u64) {
        let config = TaskConfig::default();
        let seed = Seed::new(seed);
        prop_assert_eq!(policy_example(&config, seed, idx), policy_example(&config, seed, idx));
        prop_assert_eq!(judge_pair(&config, seed, idx), judge_pair(&config, seed, idx));
        prop_assert_eq!(super::question(&config, seed, idx), super::question(&config, seed, idx));
    }
}

#[test]
fn settings_are_refused_where_no_problem_meets_them_and_end_otherwise() {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let ops = [None, Some(Op::Add), Some(Op::Sub), Some(Op::Mul)];
        for (split, op) in
            [Split::Train, Split::Eval].map(|split| ops.map(|op| (split, op))).concat()
        {
            for digits in [None, Some(1), Some(2), Some(3)] {
                let misleading = 1.0;
                let config = TaskConfig { split, op, digits, misleading, ..TaskConfig::default() };
                let is_impossible = op == Some(Op::Mul) && digits > Some(1);
                let problems = config.validate();
                assert_eq!(problems.len(), usize::from(is_impossible), "{config:?} {problems:?}");
                if is_impossible {
                    assert!(problems[0].starts_with("digits is "), "{problems:?}");
                    continue;
                }
                for idx in 0..20 {
                    judge_pair(&config, Seed::new(1), idx);
                    shot(&config, Seed::new(1), idx);
                    let problem = config.problem(&mut Draw::new(Seed::new(1).child("p", idx)));
                    assert!(digits.is_none_or(|digits| problem.has_digits(digits)));
                }
            }
        }
        sender.send(())
    });
    let limit = std::time::Duration::from_secs(120);
    receiver.recv_timeout(limit).expect("all draws end");
}

#[test]
fn all_problems_are_those_that_are_drawn() {
    let mut rare = BTreeSet::new();
    for idx in 0..3000 {
        let problem = ArithmeticProblem::draw(&mut Draw::new(Seed::new(4).child("p", idx)));
        let digits = (1..=3).find(|digits| problem.has_digits(*digits));
        if let Some(digits) = digits {
            let mut all = ArithmeticProblem::all(problem.op, digits);
            assert!(all.any(|other| other == problem), "{problem:?}");
        }
        if problem.op == Op::Mul && digits == Some(1) {
            rare.insert((problem.a, problem.b));
        }
    }
    assert_eq!(ArithmeticProblem::all(Op::Mul, 1).count(), 64);
    assert!(rare.len() > 20);
    assert_eq!(ArithmeticProblem::all(Op::Sub, 1).count(), 45);
}
