//! SIGKILL at every step of a change: what packets meet is whole, and the next start finishes the change.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use lbd_tests::client::download;
use lbd_tests::root_or_skip;
use lbd_tests::server::nginx::Nginx;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use lbd_tests::web::{HTTP, PATIENCE, POOL, Web, expect_no_failure, until, until_answered};
use serde_json::Value;

/// The daemon ends itself with SIGKILL after so many changes of the maps.
const CRASH: &str = "LBD_TEST_CRASH_AFTER_CHANGES";
const HEALTH: &str =
    r#"{ type = "http", port = 80, path = "/healthz", interval = "500ms", timeout = "400ms" }"#;
const PER_SECOND: u32 = 100;
const ANSWERS: u64 = 40;
/// A change of less would not be worth the test.
const LEAST_STEPS: usize = 10;
/// Port of the service that goes, and of the one that comes.
const OLD: u16 = 81;
const NEW: u16 = 82;

/// Before: three backends, and a service that goes. After: a fourth backend, another weight, a service that comes.
fn settings(topology: &Topology, after: bool) -> Settings {
    let address = |index: usize| format!("\"{}\"", topology.backend_address(index));
    let (vip, mode) = (topology.vip(), topology.plan.mode.name());
    let (backends, name, port) = match after {
        false => ([address(0), address(1), address(2)].join(", "), "old", OLD),
        true => {
            let heavy = format!("{{ address = {}, weight = 3 }}", address(2));
            ([address(0), address(1), heavy, address(3)].join(", "), "new", NEW)
        }
    };
    let other = format!("\"{}:{HTTP}\"", topology.backend_address(0));
    let services = format!(
        "[defaults]\nforward = \"{mode}\"\nhealth = {HEALTH}\n\n\
         [[pool]]\nname = \"{POOL}\"\nbackends = [{backends}]\n\n\
         [[service]]\nname = \"{POOL}\"\nlisten = [\"{vip}:{HTTP}/tcp\"]\npool = \"{POOL}\"\n\n\
         [[service]]\nname = \"{name}\"\nlisten = [\"{vip}:{port}/tcp\"]\nbackends = [{other}]\n"
    );
    Settings { on_exit: "keep".to_owned(), ..Settings::new(services) }
}

/// What a client and an operator can see of the configuration after the change, without what counts up.
fn picture(lbd: &Lbd) -> Result<Value> {
    let mut pools = lbd.lbctl(&["service", "list"])?;
    let mut tables = pools["pools"].take();
    for table in tables.as_array_mut().context("no list of tables")? {
        // Counts the swaps, of which a crash may make more or fewer.
        table.as_object_mut().context("a table is no object")?.remove("generation");
    }
    let backends = lbd.lbctl(&["backend", "list"])?;
    let rows = backends["backends"].as_array().context("no list of backends")?.iter();
    let rows = rows.map(|row| {
        let fields = ["pool", "address", "weight", "eligible", "slots"];
        Value::from(fields.map(|field| row[field].clone()).to_vec())
    });
    Ok(Value::from(vec![tables, Value::from(rows.collect::<Vec<_>>())]))
}

struct Stage {
    web: Web,
    _fourth: Nginx,
}

impl Stage {
    fn build() -> Result<Stage> {
        let mut web =
            Web::start(Plan::new("crash", Mode::FullNat, Family::V4), |topology| settings(topology, false))?;
        let fourth = web.topology.add_backend()?;
        let fourth = Nginx::start(&fourth.namespace, &fourth.name, HTTP)?;
        Ok(Stage { web, _fourth: fourth })
    }

    fn reload(&self, after: bool) -> Result<()> {
        self.web.lbd.rewrite_config(&self.web.topology, &settings(&self.web.topology, after))?;
        self.web.lbd.reload()
    }

    /// Waits until the change is in force, or undone.
    fn settle(&mut self, after: bool) -> Result<()> {
        let service = if after { "new" } else { "old" };
        until(&format!("service {service}"), || Ok(self.web.lbd.backends(service).is_ok()))?;
        self.web.lbd.wait_eligible(service, 1, PATIENCE)?;
        self.web.lbd.wait_eligible(POOL, if after { 4 } else { 3 }, PATIENCE)
    }

    /// The change, with a daemon that dies after so many writes. False: it did not come to that.
    fn crash(&mut self, step: usize) -> Result<bool> {
        let Web { lbd, topology, .. } = &mut self.web;
        lbd.kill()?;
        lbd.set_environment(&[(CRASH, &step.to_string())]);
        lbd.start_again(topology)?;
        lbd.set_environment(&[]);
        lbd.wait_eligible(POOL, 3, PATIENCE)?;
        let load = self.web.load(PER_SECOND)?;
        let begin = Instant::now();
        until_answered(load.recorder(), begin, ANSWERS)?;
        self.reload(true)?;
        let mut crashed = false;
        until("the change or the end", || {
            crashed = self.web.lbd.process().try_wait()?.is_some();
            Ok(crashed || self.is_changed()?)
        })?;
        until_answered(load.recorder(), Instant::now(), ANSWERS).context("without a daemon")?;
        if crashed {
            self.web.lbd.start_again(&self.web.topology)?;
            self.settle(true)?;
            until_answered(load.recorder(), Instant::now(), ANSWERS).context("after the start")?;
        }
        expect_no_failure(load.recorder(), begin)?;
        Ok(crashed)
    }

    fn is_changed(&self) -> Result<bool> {
        // A daemon that dies just now answers no more; the next look sees it.
        let Ok(backends) = self.web.lbd.backends(POOL) else { return Ok(false) };
        let eligible = backends.iter().filter(|backend| backend["eligible"] == true).count();
        Ok(eligible == 4)
    }
}

#[test]
fn a_crash_at_any_step_of_a_change_harms_no_packet_and_is_mended() -> Result<()> {
    if !root_or_skip("a_crash_at_any_step_of_a_change_harms_no_packet_and_is_mended") {
        return Ok(());
    }
    let mut stage = Stage::build()?;
    stage.reload(true)?;
    stage.settle(true)?;
    let wanted = picture(&stage.web.lbd)?;
    stage.reload(false)?;
    stage.settle(false)?;
    let mut steps = 0;
    while stage.crash(steps + 1).with_context(|| format!("crash after change {}", steps + 1))? {
        steps += 1;
        let found = picture(&stage.web.lbd)?;
        ensure!(found == wanted, "after a crash at change {steps}: {found}\nwithout one: {wanted}");
        let (client, vip) = (&stage.web.topology.client, stage.web.topology.vip());
        download(client, (vip, NEW).into(), "/").context("the service that came")?;
        if download(client, (vip, OLD).into(), "/").is_ok() {
            bail!("after a crash at change {steps} the service that went still answers");
        }
        stage.reload(false)?;
        stage.settle(false)?;
    }
    println!("{steps} steps");
    ensure!(steps >= LEAST_STEPS, "the whole change was {steps} steps");
    Ok(())
}
