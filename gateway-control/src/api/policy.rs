//! `/api/v1/policy/explain`: which policies decide a statement, and why.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use gateway_core::operation::{Operation, Operations};
use gateway_core::policy::Explanation;
use gateway_core::principal::{Principal, PrincipalKind};
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::extract::Body;
use super::{Api, Problem};
use crate::asked::ADMINISTER;

/// What is to be explained.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Who asks.
    pub subject: String,
    /// What that is; a person where nothing is said.
    #[serde(default)]
    pub kind: Option<PrincipalKind>,
    /// The groups it is in.
    #[serde(default)]
    pub groups: Vec<String>,
    /// For whom it acts.
    #[serde(default)]
    pub on_behalf_of: Option<String>,
    /// On what.
    pub resource: String,
    /// Where in it (a database), where the resource pins no place.
    #[serde(default)]
    pub place: Option<String>,
    /// The statement; null: only whether it may connect.
    #[serde(default)]
    pub statement: Option<String>,
    /// Without asking the target what the statement means.
    #[serde(default)]
    pub offline: bool,
}

pub(super) async fn explain(
    State(api): State<Api>,
    caller: Caller,
    Body(asked): Body<ExplainRequest>,
) -> Result<Json<Explanation>, Problem> {
    explained(&api, &caller, asked).await.map(Json)
}

/// Names policies, so it is for those who administer the resource.
pub(crate) async fn explained(
    api: &Api,
    caller: &Caller,
    asked: ExplainRequest,
) -> Result<Explanation, Problem> {
    api.demand(caller, ADMINISTER, &asked.resource, None)?;
    let gateway = api.gateway();
    let resource = gateway
        .resource(&asked.resource)
        .ok_or_else(|| Problem::absent("there is no such resource"))?;
    let strange = |problem: gateway_core::adapter::ConfigProblem| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, problem.to_string())
    };
    let meaning = match &asked.statement {
        None => {
            let summary = format!("connect {}", resource.name);
            let adapter = api.0.parts.adapters.adapter(&resource.protocol);
            let asked = adapter.map(|adapter| adapter.connects(&resource, asked.place.as_deref()));
            let mut asked = asked.unwrap_or_else(|_| vec![Operation::connect(&resource.name)]);
            asked.truncate(1);
            Arc::new(Operations::new(asked, summary)).into()
        }
        Some(statement) => match gateway.own_resource(&resource.name) {
            Some(own) => own.operations(statement).map_err(strange)?.into(),
            None => {
                let adapter = api.0.parts.adapters.adapter(&resource.protocol);
                adapter
                    .map_err(strange)?
                    .meaning(
                        gateway,
                        &resource,
                        statement,
                        asked.place.as_deref(),
                        asked.offline,
                    )
                    .await
                    .map_err(strange)?
            }
        },
    };
    let mut principal = Principal::new(asked.subject, asked.kind.unwrap_or(PrincipalKind::Human));
    principal.groups = asked.groups.into_iter().collect();
    principal.on_behalf_of = asked.on_behalf_of;
    let policies = &api.0.parts.policies;
    let explanation = policies.explain(&Arc::new(principal), &resource, &meaning.operations);
    Ok(explanation.with_meaning(&meaning))
}
