//! Calls by name: a method's path and messages come from the description of the API, not from generated code.

use prost::bytes::{Buf, BufMut};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// The description of the API.
pub(crate) fn pool() -> DescriptorPool {
    DescriptorPool::decode(snowglobe::proto::DESCRIPTORS).expect("build.rs wrote it")
}

/// The method that a case calls `service` and `method`.
pub(crate) fn method(
    pool: &DescriptorPool,
    service: &str,
    method: &str,
) -> Option<MethodDescriptor> {
    let service = pool.services().find(|known| known.name() == service)?;
    service.methods().find(|known| known.name() == method)
}

/// Where the method is called.
pub(crate) fn path(method: &MethodDescriptor) -> http::uri::PathAndQuery {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    path.parse().expect("names make a path")
}

/// Messages on the wire, told by their description.
pub(crate) struct DynamicCodec(pub(crate) MessageDescriptor);

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Wire;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> Wire {
        Wire
    }

    fn decoder(&mut self) -> DynamicDecoder {
        DynamicDecoder(self.0.clone())
    }
}

/// Encodes any message.
pub(crate) struct Wire;

impl Encoder for Wire {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let bytes = prost::Message::encode_to_vec(&message);
        into.put_slice(&bytes);
        Ok(())
    }
}

/// Decodes messages of one kind.
pub(crate) struct DynamicDecoder(MessageDescriptor);

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        DynamicMessage::decode(self.0.clone(), bytes)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}
