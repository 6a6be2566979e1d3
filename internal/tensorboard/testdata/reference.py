"""Writes reference.hex: a few events as tensorboard 2.21.0 itself writes them.

    pip install tensorboard==2.21.0
    python internal/tensorboard/testdata/reference.py > internal/tensorboard/testdata/reference.hex
"""

import io
import textwrap

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

AT = 1767323045.25
text = TensorProto(dtype=DT_STRING, string_val=[b"name: tiny\n"],
                   tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]))
events = [
    Event(wall_time=AT, step=0, file_version="brain.Event:2"),
    Event(wall_time=AT, step=41, session_log=SessionLog(status=SessionLog.START)),
    Event(wall_time=AT, step=1_000_000, summary=Summary(value=[
        Summary.Value(tag="train/loss", simple_value=2.5), Summary.Value(tag="validation/bleu", simple_value=1 / 3)])),
    Event(wall_time=AT, step=41, summary=Summary(value=[Summary.Value(
        tag="recipe", tensor=text, metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")))])),
]
out = io.BytesIO()
writer = RecordWriter(out)
for event in events:
    writer.write(event.SerializeToString())
print("\n".join(textwrap.wrap(out.getvalue().hex(), 96)))
