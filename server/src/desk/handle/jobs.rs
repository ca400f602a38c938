//! Jobs: they are accepted once they are in the journal, and resumed by the next start.
//!
//! Knows no route.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::{AdmissionCheck, ScorerHandle};
use crate::client::Client;
use crate::desk::commands::JudgeCommand;
use crate::judged::GroupKey;
use crate::problem::Problem;
use joust_reward::GroupRequest;

impl ScorerHandle {
    /// Resumes the jobs that an earlier start accepted.
    pub(super) fn resume_jobs(&self) {
        let jobs = std::mem::take(&mut self.restored().jobs);
        for (key, (group, client)) in jobs {
            let mut request = self.request(group, &client, None);
            // by which its client knows it
            request.key = key;
            let group_json = Arc::clone(&request.group_json);
            // accepted jobs are judged even if they exceed the limits
            let begun = self.begin(request, AdmissionCheck::Skip).map_err(|(problem, _)| problem);
            let resumed = begun.and_then(|_| self.send_record(key, group_json, &client, None));
            if let Err(problem) = resumed {
                tracing::warn!(job = %key, ?problem, "A job of an earlier start was not resumed.");
            }
        }
    }

    /// Submits a group as a job and returns its key, once the job is in the journal: a restarted
    /// server resumes it.
    pub(crate) async fn accept_job(
        &self,
        group: GroupRequest,
        client: &Client,
    ) -> Result<GroupKey, Problem> {
        let request = self.request(group, client, None);
        let (key, group_json) = (request.key, Arc::clone(&request.group_json));
        let begun = self.begin(request, AdmissionCheck::Enforce);
        begun.map_err(|(problem, _)| problem)?;
        self.record_job(key, group_json, client).await?;
        Ok(key)
    }

    /// Has a job recorded whose group was found in flight or cached a moment ago. Where that fails,
    /// the thread cancels the group unless others want it, or this client had a job of it before.
    async fn record_job(
        &self,
        key: GroupKey,
        group_json: Arc<RawValue>,
        client: &Client,
    ) -> Result<(), Problem> {
        let (recorded, receive) = oneshot::channel();
        self.send_record(key, group_json, client, Some(recorded))?;
        self.unless_stopped(receive).await?.map_err(|reason| {
            Problem::NotRecorded(format!(
                "the job is not accepted, because it could not be recorded: {reason}"
            ))
        })
    }

    /// Adds a client's job to a group, and sends the command to record it; `recorded` is told once
    /// it is in the journal.
    fn send_record(
        &self,
        key: GroupKey,
        group_json: Arc<RawValue>,
        client: &Client,
        recorded: Option<oneshot::Sender<Result<(), String>>>,
    ) -> Result<(), Problem> {
        let added = self.ledger.lock().results.add_job(key, client);
        let is_new = added.map_err(|limit| Problem::QueueFull {
            reason: format!("{limit} clients have a job of this group"),
            after: Duration::from_secs(1),
        })?;
        let client = client.clone();
        let record = JudgeCommand::RecordJob { key, group_json, client, is_new, recorded };
        let Err(refused) = self.commands.try_send(record) else { return Ok(()) };
        if let (true, JudgeCommand::RecordJob { client, .. }) = (is_new, refused.into_inner()) {
            self.ledger.lock().results.withdraw_job(key, &client);
        }
        Err(self.why_refused())
    }
}

#[cfg(test)]
mod tests;
