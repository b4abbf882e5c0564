//! What a client knows of its standing with a cluster, and how each request shows it.

use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::error::Refusal;
use crate::proto::etcdserverpb::AuthenticateRequest;
use crate::proto::etcdserverpb::auth_client::AuthClient;

/// A channel to a member, on which each request shows the client's token, if there is one.
pub type Way = InterceptedService<Channel, Token>;

/// Puts a token into the metadata of each request.
#[derive(Clone, Default)]
pub struct Token(Option<AsciiMetadataValue>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// See the module.
#[derive(Clone, Default)]
pub enum Login {
    /// Nothing: who wants to be known must ask for a token.
    #[default]
    Unknown,
    /// Nobody wants to know who it is.
    NotWanted,
    /// This token stands for its user.
    Known(Token),
}

impl Login {
    /// What each request shows.
    #[must_use]
    pub fn token(&self) -> Token {
        match self {
            Self::Known(token) => token.clone(),
            Self::Unknown | Self::NotWanted => Token::default(),
        }
    }

    /// Asks a member for a token. That it does not want to know is no error.
    ///
    /// # Errors
    /// What the member says, or what has become of the way to it.
    pub async fn ask(channel: Channel, name: &str, password: &str) -> Result<Self, Status> {
        let (name, password) = (name.to_owned(), password.to_owned());
        let request = AuthenticateRequest { name, password };
        match AuthClient::new(channel).authenticate(request).await {
            Ok(response) => {
                let token = response.into_inner().token.parse();
                let token = token.map_err(|_| Status::internal("a token that is no text"))?;
                Ok(Self::Known(Token(Some(token))))
            }
            Err(status) if status.message() == Refusal::AuthNotEnabled.text() => {
                Ok(Self::NotWanted)
            }
            Err(status) => Err(status),
        }
    }

    /// Whether these words of a member mean that what was known does not hold any more. The request was not done.
    #[must_use]
    pub fn is_over(message: &str) -> bool {
        let words = [Refusal::InvalidAuthToken, Refusal::UserEmpty, Refusal::AuthOldRevision];
        words.map(Refusal::text).contains(&message)
    }
}
