//! Starts of a run on a folder in every state.

use joust_dist::Collectives;
use joust_trainer::Metrics;

use super::content::METRICS;
use super::*;
use crate::config::sft::SftRun;
use crate::observer::{Event, Observer};

/// A run in a folder of its own, which reads one file.
struct Made {
    dir: tempfile::TempDir,
    config: SftRun,
    inputs: Vec<InputPath>,
}

impl Made {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = SftRun::default();
        config.run.output_dir = dir.path().join("outputs");
        let data = dir.path().join("data.jsonl");
        std::fs::write(&data, "{}\n").unwrap();
        let inputs = vec![InputPath::file("data.path", &data)];
        config.data.path = Some(data);
        Self { dir, config, inputs }
    }

    fn start(&self, existing: ExistingRun) -> Result<RunFolder, Error> {
        let start = RunStart::new(&self.config.run, &self.config, &self.inputs, existing)?;
        let alone = Collectives::single(tch::Device::Cpu);
        start.check(&alone)?;
        start.open_together(&alone)
    }

    fn refused(&self, existing: ExistingRun) -> String {
        self.start(existing).err().expect("the start is refused").to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.config.run.dir().join(name)
    }

    /// Makes a step with a checkpoint, as far as the folder knows it.
    fn make_step(&self, folder: &RunFolder, step: u64) {
        let state = self.path(&format!("checkpoints/step_{step:05}/trainer_state"));
        std::fs::create_dir_all(&state).unwrap();
        std::fs::write(state.join("state.json"), "{}").unwrap();
        folder.metrics_log().unwrap().add(step, &Metrics::new()).unwrap();
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        read_whole_lines(&self.path(name)).unwrap()
    }
}

#[test]
fn a_run_without_steps_may_be_started_again_with_another_config() {
    let mut made = Made::new();
    drop(made.start(ExistingRun::Refuse).unwrap());
    for existing in [ExistingRun::Refuse, ExistingRun::Resume, ExistingRun::Clean] {
        made.config.trainer.max_length += 1;
        drop(made.start(existing).unwrap());
        let config = std::fs::read_to_string(made.path(CONFIG)).unwrap();
        assert!(config.contains(&format!("max_length = {}", made.config.trainer.max_length)));
        assert_eq!(made.lines(STARTS).len(), 1, "another run has begun");
    }
}

#[test]
fn a_run_with_steps_is_kept_resumed_or_cleaned() {
    let made = Made::new();
    let folder = made.start(ExistingRun::Refuse).unwrap();
    made.make_step(&folder, 2);
    folder.metrics_log().unwrap().add(3, &Metrics::new()).unwrap();
    drop(folder);
    // names that joust does not give
    let own = ["step_100", "checkpoints/step_100", "completions/completions_3"];
    for name in own {
        std::fs::create_dir_all(made.path(name)).unwrap();
    }
    let tmp = ["notes.tmp", "thesis.old.tmp", "checkpoints/best.tmp", "completions/mine.tmp"];
    std::fs::create_dir_all(made.path("completions")).unwrap();
    for name in tmp {
        std::fs::write(made.path(name), "mine").unwrap();
    }
    let unfinished = [
        "metrics.jsonl.7-0.tmp",
        "metrics.jsonl.tmp",
        "completions/completions_00002.parquet.7-1.tmp",
    ];
    for name in unfinished {
        std::fs::write(made.path(name), "half").unwrap();
    }
    // killed while a checkpoint was about to be replaced
    let checkpoint = made.path("checkpoints/step_00002");
    std::fs::write(checkpoint.join(atomic::MARK), "").unwrap();
    std::fs::rename(&checkpoint, made.path("checkpoints/step_00002.old.tmp")).unwrap();
    std::fs::create_dir_all(made.path("step_00003")).unwrap();
    let message = made.refused(ExistingRun::Refuse);
    assert!(message.contains("is there already; go on with --resume"), "{message}");
    let about = std::fs::read_to_string(made.path(ABOUT)).unwrap();

    let folder = made.start(ExistingRun::Resume).unwrap();
    assert_eq!(folder.newest.as_ref().map(|(step, _)| *step), Some(2));
    let steps: Vec<Value> = made.lines(METRICS).iter().map(|row| row["step"].clone()).collect();
    assert_eq!(steps, [json!(2)], "the step after the checkpoint is made again");
    let starts = made.lines(STARTS);
    assert_eq!(starts.len(), 2);
    assert_eq!(
        (&starts[0]["resumed_from_step"], &starts[1]["resumed_from_step"]),
        (&Value::Null, &json!(2))
    );
    assert_eq!(std::fs::read_to_string(made.path(ABOUT)).unwrap(), about, "of the first start");
    assert!(own.iter().all(|name| made.path(name).exists()) && !made.path("step_00003").exists());
    assert!(checkpoint.exists() && !checkpoint.join(atomic::MARK).exists());
    assert!(tmp.iter().all(|name| made.path(name).exists()));
    assert!(!unfinished.iter().any(|name| made.path(name).exists()));
    drop(folder);

    std::fs::write(made.path("notes.txt"), "mine").unwrap();
    let folder = made.start(ExistingRun::Clean).unwrap();
    assert!(folder.newest.is_none() && !made.path("checkpoints/step_00002").exists());
    assert!(own.iter().chain(&tmp).all(|name| made.path(name).exists()));
    assert_eq!(std::fs::read_to_string(made.path("notes.txt")).unwrap(), "mine");
    assert_eq!(made.lines(STARTS).len(), 1);
}

#[test]
fn a_second_start_is_refused_while_the_first_one_writes() {
    let made = Made::new();
    let first = made.start(ExistingRun::Refuse).unwrap();
    made.make_step(&first, 1);
    let wanted = format!("process {}", std::process::id());
    for existing in [ExistingRun::Refuse, ExistingRun::Resume, ExistingRun::Clean] {
        let message = made.refused(existing);
        assert!(message.contains(&wanted) && message.contains("is writing this run"), "{message}");
    }
    assert_eq!(made.lines(STARTS).len(), 1);
    drop(first);
    drop(made.start(ExistingRun::Resume).unwrap());
}

#[test]
fn resuming_notes_changes_and_refuses_those_of_what_is_computed() {
    let mut made = Made::new();
    let folder = made.start(ExistingRun::Refuse).unwrap();
    made.make_step(&folder, 1);
    drop(folder);
    made.config.trainer.max_length += 1;
    made.config.run.seed = 7;
    let message = made.refused(ExistingRun::Resume);
    assert!(message.contains("keys `run.seed`, `trainer.max_length` differ"), "{message}");
    made.config.trainer.max_length -= 1;
    made.config.run.seed = 0;

    // a longer run at another place, its data too
    made.config.trainer.steps = Some(5);
    made.config.checkpoint.every = 3;
    let (from, to) = (made.config.run.dir(), made.dir.path().join("elsewhere"));
    std::fs::create_dir(&to).unwrap();
    std::fs::rename(from, to.join("moved")).unwrap();
    made.config.run.output_dir = to;
    made.config.run.name = "moved".to_owned();
    let data = made.dir.path().join("copy.jsonl");
    std::fs::copy(made.config.data.path.as_ref().unwrap(), &data).unwrap();
    made.config.data.path = Some(data.clone());
    made.inputs = vec![InputPath::file("data.path", &data)];
    let folder = made.start(ExistingRun::Resume).unwrap();
    let changes = folder.changes().join(", ");
    assert!(changes.contains("trainer.steps unset → 5, checkpoint.every 0 → 3"), "{changes}");
    let noted = made.lines(STARTS).pop().unwrap();
    assert_eq!(noted["changes"]["trainer.steps"], json!({"from": null, "to": 5}));
    drop(folder);

    std::fs::write(&data, "{ }\n").unwrap();
    let message = made.refused(ExistingRun::Resume);
    let wanted = "not the content that the run began with: data.path (";
    assert!(message.contains(wanted) && message.contains("copy.jsonl"), "{message}");
}

#[test]
fn a_run_of_an_earlier_version_goes_on() {
    let mut made = Made::new();
    let folder = made.start(ExistingRun::Refuse).unwrap();
    made.make_step(&folder, 1);
    drop(folder);
    // without the keys and the files of today
    let text = std::fs::read_to_string(made.path(CONFIG)).unwrap();
    let text: Vec<&str> = text.lines().filter(|line| !line.contains("every_minutes")).collect();
    std::fs::write(made.path(CONFIG), text.join("\n")).unwrap();
    std::fs::remove_file(made.path(STARTS)).unwrap();
    std::fs::remove_file(made.path(lock::FILE)).unwrap();
    std::fs::write(made.path(ABOUT), "{\"joust\": \"0.1.0\"}").unwrap();
    drop(made.start(ExistingRun::Resume).unwrap());
    // what is not known to be the same is refused
    let data = made.dir.path().join("copy.jsonl");
    std::fs::write(&data, "{}\n").unwrap();
    made.config.data.path = Some(data);
    let message = made.refused(ExistingRun::Resume);
    assert!(message.contains("key `data.path` differs"), "{message}");
}

#[test]
fn other_folders_are_not_touched() {
    let made = Made::new();
    std::fs::create_dir_all(made.config.run.dir()).unwrap();
    std::fs::write(made.path("notes.txt"), "mine").unwrap();
    for existing in [ExistingRun::Refuse, ExistingRun::Resume, ExistingRun::Clean] {
        let message = made.refused(existing);
        assert!(message.contains("is there already and is no run"), "{message}");
    }
    assert_eq!(std::fs::read_dir(made.config.run.dir()).unwrap().count(), 1);
}

/// Counts what it is told.
struct Counter(usize);

impl Observer for Counter {
    fn observe(&mut self, _: Event<'_>) -> Result<(), Error> {
        self.0 += 1;
        Ok(())
    }
}

#[test]
fn metrics_log_has_the_first_measurement_and_each_step_and_its_failure_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::from([("eval/accuracy".to_owned(), 0.5)]);
    let mut observers = (MetricsLog::of_run(dir.path()), Counter(0));
    let finished = Event::StepFinished { step: 2, n_steps: 4, metrics: &metrics };
    let evaluated = |step| Event::Evaluated { step, metrics: &metrics };
    for event in [Event::LoopFinished, evaluated(0), evaluated(2), finished] {
        observers.observe(event).unwrap();
    }
    let path = dir.path().join(METRICS);
    let line = |step: u64| json!({"step": step, "eval/accuracy": 0.5});
    assert_eq!(read_whole_lines(&path).unwrap(), [line(0), line(2)]);
    assert_eq!(observers.1.0, 4);
    // a log that cannot be written
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let failure = observers.observe(finished).unwrap_err().to_string();
    assert!(failure.contains("metrics.jsonl"), "{failure}");
    assert_eq!(observers.1.0, 4, "nobody is told of a step that is not logged");
    observers.observe(Event::LoopFinished).unwrap();
}
