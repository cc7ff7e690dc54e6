//! Routes that two services claim. The router could only pick one of them, so neither is guessed.

use std::collections::{BTreeMap, HashMap};

use super::read::{Node, Report, Table};
use crate::{ListenerId, RouteHost, RouteSpec};

/// A route and where it is written.
pub(super) struct Claim {
    at: usize,
    path: String,
    route: RouteSpec,
}

impl Claim {
    /// The route at a node.
    pub(super) fn at(node: Node<'_>, route: &RouteSpec) -> Self {
        Self { at: node.at(), path: node.path(), route: route.clone() }
    }

    /// The route that a service without any has.
    pub(super) fn by_default(t: &Table<'_>, route: &RouteSpec) -> Self {
        Self { at: t.at(), path: t.path("routes"), route: route.clone() }
    }
}

/// The routes of all services.
#[derive(Default)]
pub(super) struct Claims(Vec<ServiceClaims>);

struct ServiceClaims {
    service: String,
    /// `None`: on every listener.
    listeners: Option<Vec<ListenerId>>,
    claims: Vec<Claim>,
}

/// Who holds one host and path.
#[derive(Default)]
struct Holders<'a> {
    /// The service that holds it on every listener.
    everywhere: Option<&'a str>,
    /// A service that holds it on some listener.
    anywhere: Option<&'a str>,
    on: BTreeMap<&'a ListenerId, &'a str>,
}

impl Claims {
    /// Adds a service's routes.
    pub(super) fn add(&mut self, service: &str, listeners: Option<&[ListenerId]>, claims: Vec<Claim>) {
        self.0.push(ServiceClaims { service: service.into(), listeners: listeners.map(Into::into), claims });
    }

    /// Notes each route that another one before it in the file has claimed on the same listener.
    pub(super) fn refuse_conflicts(&self, report: &Report) {
        let mut claims: Vec<_> = self.0.iter().flat_map(|of| of.claims.iter().map(move |claim| (of, claim))).collect();
        claims.sort_by_key(|(_, claim)| claim.at);
        let mut held: HashMap<(&RouteHost, &str), Holders<'_>> = HashMap::with_capacity(claims.len());
        for (of, claim) in claims {
            let holders = held.entry((&claim.route.host, &claim.route.path)).or_default();
            if let Some(holder) = holders.claim(&of.service, of.listeners.as_deref()) {
                let route = format!("{}{}", claim.route.host, claim.route.path);
                let message = if holder == of.service {
                    format!("{route} is in this service already: remove one of the two")
                } else {
                    format!(
                        "{route} belongs to service {holder} already: change host or path, or give them different listeners"
                    )
                };
                report.add(claim.at, claim.path.clone(), message);
            }
        }
    }
}

impl<'a> Holders<'a> {
    /// Claims it for a service, unless another has it on one of these listeners.
    fn claim(&mut self, service: &'a str, listeners: Option<&'a [ListenerId]>) -> Option<&'a str> {
        let holder = self.everywhere.or_else(|| match listeners {
            None => self.anywhere,
            Some(listeners) => listeners.iter().find_map(|listener| self.on.get(listener).copied()),
        });
        match listeners {
            _ if holder.is_some() => {}
            None => (self.everywhere, self.anywhere) = (Some(service), Some(service)),
            Some(listeners) => {
                self.anywhere = self.anywhere.or(listeners.first().map(|_| service));
                self.on.extend(listeners.iter().map(|listener| (listener, service)));
            }
        }
        holder
    }
}
