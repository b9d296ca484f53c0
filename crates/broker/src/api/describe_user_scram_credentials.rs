//! DescribeUserScramCredentials 0: which users can authenticate by which mechanism, never with what (KIP-554).

use std::collections::BTreeMap;

use ottla_metadata::Image;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_user_scram_credentials_request::DescribeUserScramCredentialsRequest;
use ottla_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResponse, DescribeUserScramCredentialsResult,
};

use crate::Broker;
use crate::call::Call;

/// Handles the request. No users, or none named, means all of them.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DescribeUserScramCredentialsRequest<'_>) {
    let image = broker.image();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    match request.users.as_deref() {
        None | Some([]) => times.extend(image.scram_credentials().keys().map(|user| (&*user.name, 1))),
        Some(users) => users.iter().for_each(|user| *times.entry(&*user.name).or_default() += 1),
    }
    let results = times.into_iter().map(|(user, times)| describe(&image, user, times > 1)).collect();
    call.respond(&DescribeUserScramCredentialsResponse { results, ..Default::default() });
}

fn describe(image: &Image, user: &str, repeated: bool) -> DescribeUserScramCredentialsResult<'static> {
    let of_user = image.scram_credentials().iter().filter(|(known, _)| &*known.name == user);
    let infos = of_user.map(|(known, credential)| CredentialInfo {
        mechanism: known.mechanism,
        iterations: credential.iterations,
    });
    let infos: Vec<CredentialInfo> = infos.collect();
    let refusal = if repeated {
        Some((ErrorCode::DuplicateResource, format!("The request names the user {user} more than once.")))
    } else if infos.is_empty() {
        Some((ErrorCode::ResourceNotFound, format!("The user {user} has no SCRAM credential.")))
    } else {
        None
    };
    match refusal {
        None => DescribeUserScramCredentialsResult {
            user: user.to_owned().into(),
            credential_infos: infos,
            ..Default::default()
        },
        Some((error, message)) => DescribeUserScramCredentialsResult {
            user: user.to_owned().into(),
            error_code: error.code(),
            error_message: Some(message.into()),
            ..Default::default()
        },
    }
}
