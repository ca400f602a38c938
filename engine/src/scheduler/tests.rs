//! The scheduler with made-up requests.

use super::*;
use crate::settings::SamplingParams;

fn request(id: u64, n_tokens: usize, n: u32) -> Request {
    let params = SamplingParams { n, ..SamplingParams::default() };
    Request { id: RequestId(id), prompt_token_ids: vec![1; n_tokens], params }
}

fn scheduler(max_batch: usize, prefill_tokens: usize) -> Scheduler {
    Scheduler::new(Limits { max_batch, max_queue: 3, prefill_tokens })
}

fn plan(admitted: &[Admission]) -> Vec<(u64, u32, u32)> {
    admitted.iter().map(|a| (a.request.id.0, a.first_sample, a.n_samples)).collect()
}

#[test]
fn admits_in_order_up_to_rows_and_token_budget() {
    let mut scheduler = scheduler(4, 25);
    for (id, n_tokens) in [(1, 10), (2, 12), (3, 2)] {
        scheduler.push(request(id, n_tokens, 1)).unwrap();
    }
    // 2 prompts padded to 12 fit 25 tokens, 3 do not
    assert_eq!(plan(&scheduler.admit(0)), [(1, 0, 1), (2, 0, 1)]);
    assert_eq!(plan(&scheduler.admit(2)), [(3, 0, 1)]);
    assert!(!scheduler.has_waiting());
}

#[test]
fn a_long_prompt_runs_alone_and_many_samples_run_in_parts() {
    let mut scheduler = scheduler(4, 5);
    scheduler.push(request(1, 100, 6)).unwrap();
    assert_eq!(plan(&scheduler.admit(0)), [(1, 0, 4)]);
    assert!(scheduler.admit(4).is_empty());
    assert_eq!(plan(&scheduler.admit(1)), [(1, 4, 2)]);
}

#[test]
fn newcomers_wait_for_a_quarter_of_the_batch() {
    let mut scheduler = scheduler(8, 100);
    scheduler.push(request(1, 3, 1)).unwrap();
    assert!(scheduler.admit(7).is_empty());
    assert_eq!(plan(&scheduler.admit(6)), [(1, 0, 1)]);
}

#[test]
fn a_full_queue_refuses_and_cancelled_requests_leave_it() {
    let mut scheduler = scheduler(1, 100);
    for id in 0..3 {
        scheduler.push(request(id, 3, 1)).unwrap();
    }
    assert!(matches!(scheduler.push(request(9, 3, 1)), Err(Error::QueueFull { limit: 3 })));
    scheduler.cancel(RequestId(0));
    assert_eq!(plan(&scheduler.admit(0)), [(1, 0, 1)]);
}
