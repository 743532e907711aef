//! `plan`, `apply --max-moved` and the flows of clients.

use anyhow::{Result, ensure};
use lbd_tests::root_or_skip;

use super::{FLOWS, Stage, number};

#[test]
fn what_the_plan_says_moves_is_what_moves() -> Result<()> {
    if !root_or_skip("what_the_plan_says_moves_is_what_moves") {
        return Ok(());
    }
    let stage = Stage::build("plan", 4, 3)?;
    let mut flows = stage.flows()?;
    let of_last = flows.shares()["b3"];
    ensure!(stage.lbctl(0, &["plan"])?["flows_moved"] == 0);

    // A backend more: slots move to it, and no flow.
    stage.rewrite(4, "")?;
    let plan = stage.lbctl(10, &["plan"])?;
    ensure!(number(&plan["flows_kept"])? == FLOWS as u64 && plan["flows_moved"] == 0, "{plan}");
    ensure!(number(&plan["slots_moved"])? > 0 && plan["pools"][0]["pool"] == "echo", "{plan}");
    stage.lbctl(0, &["apply", "--wait"])?;
    ensure!(stage.round(&mut flows)?.moved == 0, "a flow moved for a backend that came");

    // Two go, one of them with flows.
    stage.rewrite(2, "")?;
    let plan = stage.lbctl(10, &["plan"])?;
    let kept = FLOWS as u64 - of_last;
    ensure!((number(&plan["flows_kept"])?, number(&plan["flows_moved"])?) == (kept, of_last), "{plan}");
    let refused = stage.lbctl(5, &["apply", "--max-moved", "5%"])?;
    ensure!(refused["error"]["code"] == "max_moved", "{refused}");
    ensure!(stage.round(&mut flows)?.moved == 0, "what is refused moves flows");
    ensure!(stage.lbd.backends("echo")?.len() == 4, "what is refused changes something");
    stage.lbctl(0, &["apply", "--max-moved", "100%"])?;
    let round = stage.round(&mut flows)?;
    ensure!(round.moved == of_last, "{round:?}, and b3 had {of_last}");
    ensure!(stage.lbctl(0, &["plan"])?["flows_moved"] == 0);
    Ok(())
}

#[test]
fn a_plan_for_larger_tables_counts_the_same_flows() -> Result<()> {
    if !root_or_skip("a_plan_for_larger_tables_counts_the_same_flows") {
        return Ok(());
    }
    let stage = Stage::build("grow", 3, 3)?;
    let mut flows = stage.flows()?;
    // More listeners than the tables were made for.
    let more: String = (0..400)
        .map(|number| {
            format!(
                "[[service]]\nname = \"s{number}\"\nlisten = [\"{}:{}/udp\"]\npool = \"echo\"\n",
                stage.topology.vip(),
                10_000 + number
            )
        })
        .collect();
    stage.rewrite(3, &more)?;
    let plan = stage.lbctl(10, &["plan"])?;
    let moves = ["flows_kept", "flows_moved", "slots_moved"].map(|field| plan[field].as_u64());
    ensure!(moves == [Some(FLOWS as u64), Some(0), Some(0)], "{moves:?}");
    stage.lbctl(0, &["apply", "--max-moved", "0"])?;
    ensure!(stage.round(&mut flows)?.moved == 0, "a flow moved for larger tables");
    Ok(())
}
