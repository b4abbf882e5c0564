//! Messages between JSON and the wire, by their descriptions alone.

use bytes::{Buf, BufMut};
use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// A message from JSON. As in etcd, fields may have either of their names, and unknown ones are passed over.
pub(super) fn from_json(kind: MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, Status> {
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mut json = serde_json::Deserializer::from_slice(json);
    DynamicMessage::deserialize_with_options(kind, &mut json, &options)
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

/// A message as JSON. As in etcd, fields have their original names, and empty ones are left out.
pub(super) fn to_json(message: &DynamicMessage) -> Result<String, Status> {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut json = Vec::new();
    let written =
        message.serialize_with_options(&mut serde_json::Serializer::new(&mut json), &options);
    written.map_err(|error| Status::internal(error.to_string()))?;
    String::from_utf8(json).map_err(|error| Status::internal(error.to_string()))
}

/// Any message to the wire, messages of one kind from it.
pub(super) struct Wire(pub(super) MessageDescriptor);

impl Codec for Wire {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = ToWire;
    type Decoder = FromWire;

    fn encoder(&mut self) -> ToWire {
        ToWire
    }

    fn decoder(&mut self) -> FromWire {
        FromWire(self.0.clone())
    }
}

/// Encodes any message.
pub(super) struct ToWire;

impl Encoder for ToWire {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&message.encode_to_vec());
        Ok(())
    }
}

/// Decodes messages of one kind.
pub(super) struct FromWire(MessageDescriptor);

impl Decoder for FromWire {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        let message = DynamicMessage::decode(self.0.clone(), bytes);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
