//! The state of a policy server that its routes share: weights, label, pause, faults.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, OwnedRwLockWriteGuard, RwLock};

use super::faults::Faults;
use super::model::{ModelThread, SampleOrder, Sampled};

/// The label of weights that nobody has named.
const START_LABEL: &str = "default";

pub(super) struct Served {
    folder: PathBuf,
    faults: Mutex<Faults>,
    calls: Mutex<Vec<String>>,
    state: Mutex<State>,
}

/// What a restart makes anew.
struct State {
    model: ModelThread,
    label: String,
    n_sampled: u64,
    /// Whether the last reload failed.
    is_broken: bool,
    /// Held by each sampling call, and by a pause for itself.
    gate: Arc<RwLock<()>>,
    pause: Option<OwnedRwLockWriteGuard<()>>,
    stop: Arc<Notify>,
}

impl State {
    fn new(folder: &Path) -> Self {
        Self {
            model: ModelThread::start(folder),
            label: START_LABEL.to_owned(),
            n_sampled: 0,
            is_broken: false,
            gate: Arc::default(),
            pause: None,
            stop: Arc::default(),
        }
    }
}

impl Served {
    pub(super) fn new(folder: &Path, faults: Faults) -> Self {
        Self {
            folder: folder.to_owned(),
            faults: Mutex::new(faults),
            calls: Mutex::default(),
            state: Mutex::new(State::new(folder)),
        }
    }

    /// The state of a server that was just started; faults stay, but for the one that ended it.
    pub(super) fn begin_anew(&self) {
        self.faults().dies_after_calls = None;
        *self.state() = State::new(&self.folder);
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap()
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    pub(super) fn record(&self, call: &str) {
        self.calls.lock().unwrap().push(call.to_owned());
    }

    pub(super) fn stop_signal(&self) -> Arc<Notify> {
        Arc::clone(&self.state().stop)
    }

    pub(super) fn label(&self) -> String {
        self.state().label.clone()
    }

    pub(super) fn set_label(&self, label: &str) {
        if !self.faults().keeps_label {
            self.state().label = label.to_owned();
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.state().pause.is_some()
    }

    /// Waits until no call samples, and lets none begin.
    pub(super) async fn pause(&self) {
        let wait = self.faults().slow_pause;
        tokio::time::sleep(wait).await;
        if !self.is_paused() {
            let gate = Arc::clone(&self.state().gate);
            let guard = gate.write_owned().await;
            self.state().pause = Some(guard);
        }
        self.forget_prefixes().await;
    }

    pub(super) fn resume(&self) {
        self.state().pause = None;
    }

    pub(super) async fn forget_prefixes(&self) {
        let model = self.model();
        if !self.faults().keeps_prefixes {
            model.forget_prefixes().await;
        }
    }

    /// Takes the weights of a folder.
    pub(super) async fn reload(&self, folder: &str) -> Result<(), String> {
        let mut faults = self.faults().clone();
        if faults.failing_reloads > 0 {
            faults.failing_reloads -= 1;
            self.faults().failing_reloads = faults.failing_reloads;
            self.state().is_broken = true;
            return Err("EngineCore encountered an issue".to_owned());
        }
        let folder = faults.other_folder.clone().unwrap_or_else(|| PathBuf::from(folder));
        let model = self.model();
        let reloaded = model.reload(folder, faults).await;
        self.state().is_broken = reloaded.is_err();
        reloaded
    }

    /// Samples once no pause stands in the way.
    pub(super) async fn sample(&self, order: SampleOrder) -> Result<Sampled, String> {
        let gate = Arc::clone(&self.state().gate);
        let _turn = gate.read_owned().await;
        match self.model_unless_dead() {
            Some(model) => model.sample(order).await,
            None => std::future::pending().await,
        }
    }

    /// The model for one more sampling call; none where that call ends the server.
    fn model_unless_dead(&self) -> Option<ModelThread> {
        let limit = self.faults().dies_after_calls;
        let mut state = self.state();
        state.n_sampled += 1;
        if state.is_broken || limit.is_some_and(|limit| state.n_sampled > limit) {
            state.stop.notify_one();
            return None;
        }
        Some(state.model.clone())
    }

    fn model(&self) -> ModelThread {
        self.state().model.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
