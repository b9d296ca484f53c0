//! DescribeClientQuotas 0-1: which limits are set for whom (KIP-546).
//!
//! The tricky idea: a filter is a conjunction of components, one per type of entity: a name, the default, or any name. It matches entities
//! that have more types too, unless it is strict. A strict filter without components matches nothing, a lax one everything.

use ottla_metadata::{QuotaEntity, Quotas};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_client_quotas_request::{ComponentData, DescribeClientQuotasRequest};
use ottla_protocol::messages::describe_client_quotas_response::{
    DescribeClientQuotasResponse, EntityData, EntryData, ValueData,
};

use crate::Broker;
use crate::call::Call;

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

/// Which names of its type a component matches.
enum Matches<'a> {
    /// This name, or the default.
    Name(Option<&'a str>),
    /// Any name, and the default.
    Any,
}

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DescribeClientQuotasRequest<'_>) {
    let components = match components(&request.components) {
        Ok(components) => components,
        Err((error, message)) => {
            return call.respond(&DescribeClientQuotasResponse {
                error_code: error.code(),
                error_message: Some(message.into()),
                entries: None,
                ..Default::default()
            });
        }
    };
    let image = broker.image();
    let matching = image.quotas().iter().filter(|(entity, _)| matches(entity, &components, request.strict));
    let entries = Some(matching.map(|(entity, quotas)| entry(entity, quotas)).collect());
    call.respond(&DescribeClientQuotasResponse { entries, ..Default::default() });
}

fn components<'a>(
    asked: &'a [ComponentData<'a>],
) -> Result<Vec<(&'a str, Matches<'a>)>, (ErrorCode, String)> {
    let invalid = |message: String| Err((ErrorCode::InvalidRequest, message));
    let mut components: Vec<(&str, Matches<'_>)> = Vec::new();
    for component in asked {
        let kind = &*component.entity_type;
        if kind.is_empty() {
            return invalid("A component needs a type of entity.".to_owned());
        }
        if components.iter().any(|(earlier, _)| *earlier == kind) {
            return invalid(format!("The filter names the type {kind} more than once."));
        }
        if !["user", "client-id", "ip"].contains(&kind) {
            let message = format!("There are no quotas for entities of type {kind}.");
            return Err((ErrorCode::UnsupportedVersion, message));
        }
        let matches = match (component.match_type, component.match_.as_deref()) {
            (EXACT, Some(name)) => Matches::Name(Some(name)),
            (EXACT, None) => return invalid("An exact match needs a name.".to_owned()),
            (DEFAULT, None) => Matches::Name(None),
            (SPECIFIED, None) => Matches::Any,
            (DEFAULT | SPECIFIED, Some(_)) => {
                return invalid("Only an exact match takes a name.".to_owned());
            }
            (other, _) => return invalid(format!("There is no match of type {other}.")),
        };
        components.push((kind, matches));
    }
    let has = |kind: &str| components.iter().any(|(known, _)| *known == kind);
    if has("ip") && components.len() > 1 {
        return invalid("An address can not be combined with a user or a client id.".to_owned());
    }
    Ok(components)
}

fn matches(entity: &QuotaEntity, components: &[(&str, Matches<'_>)], strict: bool) -> bool {
    if strict && (components.is_empty() || entity.pairs().len() != components.len()) {
        return false;
    }
    components.iter().all(|(kind, matches)| {
        let pair = entity.pairs().iter().find(|(known, _)| **known == **kind);
        pair.is_some_and(|(_, name)| match matches {
            Matches::Name(wanted) => name.as_deref() == *wanted,
            Matches::Any => true,
        })
    })
}

fn entry(entity: &QuotaEntity, quotas: &Quotas) -> EntryData<'static> {
    let entity = entity.pairs().iter().map(|(kind, name)| EntityData {
        entity_type: kind.to_string().into(),
        entity_name: name.as_ref().map(|name| name.to_string().into()),
    });
    let values = quotas.iter().map(|(key, value)| ValueData { key: key.to_string().into(), value: *value });
    EntryData { entity: entity.collect(), values: values.collect() }
}
