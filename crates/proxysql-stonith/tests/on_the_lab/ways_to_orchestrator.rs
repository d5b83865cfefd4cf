//! Orchestrator as it is reached in the field: behind gateways and balancers, through a follower, without raft.

use lab::orchestrator::Fault;
use proxysql_stonith::agent::Agent;
use stonith_core::lease::Standing;

use crate::stage::{Stage, tick};

/// Long without a lease.
fn make_old(agent: &mut Agent) {
    agent.memory.lease_asked_ms = agent.memory.lease_asked_ms.map(|asked| asked - 20_000);
    agent.memory.started_ms -= 20_000;
    agent.memory.silent_ms = agent.memory.lease_asked_ms;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_cut_off_behind_a_gateway_is_isolated() {
    let stage = Stage::set().await;
    // An error of Orchestrator's own says that it was reached.
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    (0..3).for_each(|member| stage.orchestrator.fault(member, Some(Fault::InternalError)));
    make_old(&mut agent);
    assert_eq!(tick(&mut agent).await.unwrap().decision.standing, Standing::Held);
    (0..3).for_each(|member| stage.orchestrator.fault(member, None));
    for status in [502, 503, 504] {
        let mut agent = stage.agent();
        tick(&mut agent).await.unwrap();
        (0..3).for_each(|member| stage.orchestrator.fault(member, Some(Fault::Gateway(status))));
        make_old(&mut agent);
        assert_eq!(tick(&mut agent).await.unwrap().decision.standing, Standing::Isolated, "{status}");
        assert!(stage.is_fenced("node01"));
        (0..3).for_each(|member| stage.orchestrator.fault(member, None));
    }
}
