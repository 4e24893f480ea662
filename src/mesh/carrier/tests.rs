use tokio::time::{Instant, timeout};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn renewal(left: Duration) -> (Renewal, watch::Sender<u64>) {
    let (generation, current) = watch::channel(1);
    (Renewal { generation: 1, current, not_after: SystemTime::now() + left }, generation)
}

#[tokio::test(start_paused = true)]
async fn new_files_renew_within_the_time_promised() {
    for _ in 0..20 {
        let (renewal, generation) = renewal(DAY * 365);
        let start = Instant::now();
        let change = async {
            sleep(DAY).await;
            generation.send_replace(2);
            std::future::pending::<()>().await;
        };
        let reason = tokio::select! {
            reason = renewal.due() => reason,
            () = change => unreachable!(),
        };
        assert!(reason.contains("files changed"), "{reason}");
        assert!((DAY..DAY + REMAKE_WITHIN).contains(&start.elapsed()), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_is_renewed_before_its_certificates_end() {
    let (renewal, _generation) = renewal(DAY);
    let start = Instant::now();
    assert!(renewal.due().await.contains("ends soon"));
    let passed = start.elapsed();
    assert!(passed > DAY - REMAKE_WITHIN * 3 && passed < DAY - REMAKE_WITHIN / 2, "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_found_no_newer_certificate_stays() {
    let (renewal, _generation) = renewal(REMAKE_WITHIN);
    assert!(timeout(DAY, renewal.due()).await.is_err());
}
