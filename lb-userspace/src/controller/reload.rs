//! The configuration file read again, and what the host makes of a configuration.

use std::sync::Arc;
use std::time::Instant;

use super::discovery::of_the_change;
use super::enforce::MANY_TABLES;
use super::whole::THE_FILE;
use super::{Controller, Fault, Notice};
use crate::api::{ApiError, ErrorCode};
use crate::config::{self, ConfigErrors};
use crate::membership::{Candidate, Options};
use crate::netlink::{local_listening_sockets, read_host_network};
use crate::plan::Plan;
use crate::reach::{self, HostNetwork, Judgement};
use crate::spec::{Place, Problem, Spec};

/// What became of a candidate.
pub(super) struct Accepted {
    /// Its number.
    pub(super) revision: u64,
    /// What the host makes of it and did not before.
    pub(super) warnings: Vec<Problem>,
}

impl Controller {
    /// Applies the changed file, or keeps what runs and says why.
    pub(super) async fn reload(&mut self) -> Result<String, String> {
        let result = self.try_reload().await;
        match &result {
            Ok(sentence) => {
                tracing::info!("reload: {sentence}");
                self.set_fault(Fault::Config, Vec::new());
            }
            Err(reason) => {
                tracing::error!("reload refused, everything stays as it is: {reason}");
                // That was the record of it.
                self.faults.insert(Fault::Config, vec![format!("the last reload was refused: {reason}")]);
            }
        }
        self.publish();
        self.gives_back = true;
        result
    }

    async fn try_reload(&mut self) -> Result<String, String> {
        let begun = Instant::now();
        let loaded = config::load(&self.config).map_err(|errors| in_one_line(&errors))?;
        let read = begun.elapsed();
        if let Ok(host) = read_host_network().await {
            self.host = host;
        }
        let candidate = self
            .membership
            .reload(self.clock.now(), Arc::new(loaded.spec), &Options::default())
            .map_err(|refusal| refusal.to_string())?;
        if candidate.membership.set_aside().is_some() {
            return Ok(format!(
                "{}, at revision {}",
                candidate.outcome.notes.join("; "),
                self.membership.revision()
            ));
        }
        let accepted = self.accept(candidate, THE_FILE, None).map_err(|error| error.to_string())?;
        self.set_notices(Notice::File, &loaded.warnings);
        Ok(format!(
            "the configuration is at revision {}, {}",
            accepted.revision,
            crate::moment::took(read, begun.elapsed())
        ))
    }

    /// Judges a candidate against this host and the maps, writes it down, and puts it in force. `planned`: the way there from the
    /// maps as they are, if it is known.
    pub(super) fn accept(
        &mut self,
        candidate: Candidate,
        who: &str,
        planned: Option<Plan>,
    ) -> Result<Accepted, ApiError> {
        let Candidate { membership, mut outcome } = candidate;
        // Where only the operator's hand is otherwise, the host makes of it what it made before.
        let is_redefined = !membership.is_defined_as(&self.membership);
        let judgement = is_redefined.then(|| self.judge(&membership.merged_spec()));
        let problems = judgement.as_ref().map(|judgement| &judgement.problems[..]).unwrap_or_default();
        refuse_errors(problems)?;
        let warnings = judgement.as_ref().map(|judgement| self.new_warnings(judgement)).unwrap_or_default();
        let desired = Arc::clone(membership.desired());
        let as_before =
            !self.make_room(&desired).map_err(|reason| ApiError::new(ErrorCode::Invalid, reason))?;
        let plan = match planned.filter(|_| as_before) {
            Some(plan) => plan,
            None => self
                .plan_in_room(&desired)
                .map_err(|error| ApiError::new(ErrorCode::Invalid, error.to_string()))?,
        };
        if outcome.revised {
            self.save(&membership, who, &outcome.notes).map_err(crate::membership::Refusal::from)?;
            // A revision is whole: it has what could not be written down before.
            self.unsaved = None;
            self.set_fault(Fault::State, Vec::new());
            outcome.revised = false;
        }
        self.membership = membership;
        if let Some(judgement) = judgement {
            self.reach = Arc::new(judgement.reach);
            self.set_notices(Notice::Host, &judgement.problems);
        }
        if outcome.desired_changed {
            let result = self.carry_out(&desired, plan);
            self.set_fault(Fault::Datapath, result.err().into_iter().collect());
            outcome.desired_changed = false;
        }
        self.follow(outcome);
        self.follow_sources();
        // Of many backends any change leaves megabytes behind.
        self.gives_back |= desired.pools.len() >= MANY_TABLES;
        Ok(Accepted { revision: self.membership.revision(), warnings })
    }

    /// What the host makes of a configuration that it did not make of the one in force.
    pub(super) fn new_warnings(&self, judgement: &Judgement) -> Vec<Problem> {
        let known = self.notices.get(&Notice::Host);
        let is_new = |problem: &&Problem| known.is_none_or(|known| !known.contains(&problem.to_string()));
        let mut warnings: Vec<Problem> = judgement.problems.iter().filter(is_new).cloned().collect();
        warnings.dedup();
        warnings
    }

    /// What this host, as last seen, makes of a configuration; the sockets that listen are looked at now.
    pub(super) fn judge(&self, spec: &Spec) -> Judgement {
        judge(spec, &self.host)
    }

    /// The host has changed: where the backends are now.
    pub(super) fn judge_reach(&mut self) {
        let judgement = self.judge(&self.membership.merged_spec());
        self.set_notices(Notice::Host, &judgement.problems);
        self.reach = Arc::new(judgement.reach);
        self.offer_again();
        self.tell_of_sources();
        self.publish();
    }
}

/// All mistakes of a file in one line, for one record of the log: `lbd check` has a line for each.
pub(crate) fn in_one_line(errors: &ConfigErrors) -> String {
    let errors = errors.problems.iter().filter(|problem| problem.is_error());
    let sentences: Vec<String> =
        errors.map(|problem| problem.to_string().split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    match sentences.as_slice() {
        [one] => one.clone(),
        many => format!("{} mistakes (lbd check has each in a line): {}", many.len(), many.join("; ")),
    }
}

/// What a host makes of a configuration; the sockets that listen are looked at now, if any of them matters.
pub(super) fn judge(spec: &Spec, host: &HostNetwork) -> Judgement {
    if !reach::needs_sockets(spec, host) {
        return reach::judge(spec, host);
    }
    let mut host = host.clone();
    match local_listening_sockets(|socket| reach::is_shadowed(spec, &host, socket)) {
        Ok(sockets) => {
            host.sockets = sockets;
            reach::judge(spec, &host)
        }
        Err(error) => {
            let mut judgement = reach::judge(spec, &host);
            judgement.problems.push(Problem::warning(
                Place::Setting { key: "service.listen".to_owned() },
                format!("cannot see which ports are in use here: {error}"),
                "a listener on an address of this host may take the packets of a program: look with `ss -lntu`",
            ));
            judgement
        }
    }
}

/// The errors among these as one refusal, but those of backends that a source has named.
pub(super) fn refuse_errors(problems: &[Problem]) -> Result<(), ApiError> {
    let errors: Vec<Problem> = of_the_change(problems).into_iter().filter(Problem::is_error).collect();
    match crate::membership::Refusal::of_problems(errors) {
        Some(refusal) => Err(refusal.into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_of_a_file_are_one_line() {
        let errors = |text: &str| in_one_line(&config::parse(text, "lbd.toml").unwrap_err());
        let two = errors("[datapath]\ninterfaces = [\"eth0\"]\nflowz = 1\nmodus = 2\n");
        assert!(two.starts_with("2 mistakes"), "{two}");
        assert!(two.contains("lbd.toml:3: ") && two.contains("; lbd.toml:4: "), "{two}");
        for text in ["", "[datapath]\nflowz = 1\n", "no toml"] {
            assert_eq!(errors(text).lines().count(), 1, "{text:?}");
        }
    }
}
