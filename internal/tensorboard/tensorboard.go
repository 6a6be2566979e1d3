// Package tensorboard writes event files that TensorBoard reads.
//
// A file is a row of TFRecords: the length of the data, eight bytes with the lowest first, its
// checksum, the data, its checksum. The data of each is a tensorflow.Event protocol buffer, whose
// few fields are put together here by hand. Every record is written at once, so that what was
// written before a kill can be read.
package tensorboard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"
)

// Numbers of the fields of tensorflow/core/util/event.proto and
// tensorflow/core/framework/{summary,tensor,tensor_shape}.proto.
const (
	eventWallTime    = 1
	eventStep        = 2
	eventFileVersion = 3
	eventSummary     = 5
	eventSessionLog  = 7

	sessionStatus = 1

	summaryValue  = 1
	valueTag      = 1
	valueSimple   = 2
	valueTensor   = 8
	valueMetadata = 9

	metadataPlugin = 1
	pluginName     = 1

	tensorType    = 1
	tensorShape   = 2
	tensorStrings = 8
	shapeDim      = 2
	dimSize       = 1
)

// Values of enumerations.
const (
	sessionStart = 1 // SessionLog.START: what older files say of this step and those after it is outdated
	typeString   = 7 // DT_STRING
)

// fileVersion is what the first record of a file says.
const fileVersion = "brain.Event:2"

// Writer writes one event file. It is for one goroutine.
type Writer struct {
	file *os.File
}

// Create makes a new event file in dir, beside those of the run's earlier processes. What those
// hold of steps after the given one is outdated: TensorBoard passes it over.
func Create(dir string, at time.Time, step int) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for n := 0; ; n++ { // a second may see more than one start; names are read in their order
		name := fmt.Sprintf("events.out.tfevents.%010d.%03d.t5ctl", at.Unix(), n)
		file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		w := &Writer{file: file}
		version := appendBytes(nil, eventFileVersion, []byte(fileVersion))
		start := appendBytes(nil, eventSessionLog, appendVarint(nil, sessionStatus, sessionStart))
		if err := errors.Join(w.event(at, 0, version), w.event(at, step+1, start)); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		return w, nil
	}
}

// Scalar is one number under its tag, as train/loss.
type Scalar struct {
	Tag   string
	Value float64
}

// Scalars writes what was measured at one step.
func (w *Writer) Scalars(at time.Time, step int, values []Scalar) error {
	var summary []byte
	for _, v := range values {
		value := appendBytes(nil, valueTag, []byte(v.Tag))
		value = appendFixed32(value, valueSimple, math.Float32bits(float32(v.Value)))
		summary = appendBytes(summary, summaryValue, value)
	}
	return w.event(at, step, appendBytes(nil, eventSummary, summary))
}

// Text writes a text, which TensorBoard shows as Markdown.
func (w *Writer) Text(at time.Time, step int, tag, text string) error {
	shape := appendBytes(nil, shapeDim, appendVarint(nil, dimSize, 1))
	tensor := appendVarint(nil, tensorType, typeString)
	tensor = appendBytes(tensor, tensorShape, shape)
	tensor = appendBytes(tensor, tensorStrings, []byte(text))
	metadata := appendBytes(nil, metadataPlugin, appendBytes(nil, pluginName, []byte("text")))
	value := appendBytes(nil, valueTag, []byte(tag))
	value = appendBytes(value, valueTensor, tensor)
	value = appendBytes(value, valueMetadata, metadata)
	return w.event(at, step, appendBytes(nil, eventSummary, appendBytes(nil, summaryValue, value)))
}

// Close ends the file.
func (w *Writer) Close() error { return w.file.Close() }

// event writes a record with time, step and the given rest of the message.
func (w *Writer) event(at time.Time, step int, rest []byte) error {
	seconds := float64(at.UnixMicro()) / 1e6
	data := appendTag(nil, eventWallTime, fixed64)
	data = binary.LittleEndian.AppendUint64(data, math.Float64bits(seconds))
	if step != 0 { // what is zero is left out
		data = appendVarint(data, eventStep, uint64(step))
	}
	data = append(data, rest...)
	record := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	record = binary.LittleEndian.AppendUint32(record, checksum(record))
	record = append(record, data...)
	record = binary.LittleEndian.AppendUint32(record, checksum(data))
	_, err := w.file.Write(record)
	return err
}

// checksum is CRC-32C, turned and shifted so that the checksum of data with a checksum in it stays
// telling (tensorflow/core/lib/hash/crc32c.h).
func checksum(data []byte) uint32 {
	sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	return (sum>>15 | sum<<17) + 0xa282ead8
}

// Wire types of protocol buffers.
const (
	varint  = 0
	fixed64 = 1
	bytes   = 2
	fixed32 = 5
)

func appendTag(b []byte, field, wire int) []byte {
	return binary.AppendUvarint(b, uint64(field<<3|wire))
}

func appendVarint(b []byte, field int, v uint64) []byte {
	return binary.AppendUvarint(appendTag(b, field, varint), v)
}

func appendFixed32(b []byte, field int, v uint32) []byte {
	return binary.LittleEndian.AppendUint32(appendTag(b, field, fixed32), v)
}

func appendBytes(b []byte, field int, v []byte) []byte {
	return append(binary.AppendUvarint(appendTag(b, field, bytes), uint64(len(v))), v...)
}
