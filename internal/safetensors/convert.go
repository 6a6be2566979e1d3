package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Float32s gives the elements of an F32, BF16, F16 or F64 tensor in memory of their own. F64
// is rounded to nearest, the others are exact.
func (t Tensor) Float32s() ([]float32, error) {
	if width := t.DType.Size(); width == 0 || len(t.Data) != t.Len()*width {
		return nil, fmt.Errorf("tensor %q has %d bytes, which do not fit %s %v", t.Name, len(t.Data), t.DType, t.Shape)
	}
	out := make([]float32, t.Len())
	data := t.Data
	switch t.DType { //nolint:exhaustive // the default refuses all others
	case F32:
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
	case BF16:
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16)
		}
	case F16:
		for i := range out {
			out[i] = fromHalf(binary.LittleEndian.Uint16(data[2*i:]))
		}
	case F64:
		for i := range out {
			out[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:])))
		}
	default:
		return nil, fmt.Errorf("tensor %q has dtype %s, not a floating-point type of 16 to 64 bits", t.Name, t.DType)
	}
	return out, nil
}

// FromFloat32s makes a tensor of dtype F32, BF16, F16 or F64, rounded to nearest even. A value
// beyond the range of F16 becomes an infinity, as in NumPy.
func FromFloat32s(name string, dtype DType, shape []int, values []float32) (Tensor, error) {
	t := Tensor{Name: name, DType: dtype, Shape: slices.Clone(shape)}
	if t.Len() != len(values) {
		return Tensor{}, fmt.Errorf("tensor %q has %d values, but shape %v takes %d", name, len(values), shape, t.Len())
	}
	t.Data = make([]byte, 0, len(values)*dtype.Size())
	switch dtype { //nolint:exhaustive // the default refuses all others
	case F32:
		for _, v := range values {
			t.Data = binary.LittleEndian.AppendUint32(t.Data, math.Float32bits(v))
		}
	case BF16:
		for _, v := range values {
			t.Data = binary.LittleEndian.AppendUint16(t.Data, toBrain(v))
		}
	case F16:
		for _, v := range values {
			t.Data = binary.LittleEndian.AppendUint16(t.Data, toHalf(v))
		}
	case F64:
		for _, v := range values {
			t.Data = binary.LittleEndian.AppendUint64(t.Data, math.Float64bits(float64(v)))
		}
	default:
		return Tensor{}, fmt.Errorf("tensor %q: dtype %q is not a floating-point type of 16 to 64 bits", name, dtype)
	}
	return t, nil
}

// Int64s gives the elements of a tensor of signed or unsigned integers or truth values.
func (t Tensor) Int64s() ([]int64, error) {
	if width := t.DType.Size(); width == 0 || len(t.Data) != t.Len()*width {
		return nil, fmt.Errorf("tensor %q has %d bytes, which do not fit %s %v", t.Name, len(t.Data), t.DType, t.Shape)
	}
	out := make([]int64, t.Len())
	for i := range out {
		switch t.DType { //nolint:exhaustive // the default refuses all others
		case Bool, U8:
			out[i] = int64(t.Data[i])
		case I8:
			out[i] = int64(int8(t.Data[i]))
		case U16:
			out[i] = int64(binary.LittleEndian.Uint16(t.Data[2*i:]))
		case I16:
			out[i] = int64(int16(binary.LittleEndian.Uint16(t.Data[2*i:])))
		case U32:
			out[i] = int64(binary.LittleEndian.Uint32(t.Data[4*i:]))
		case I32:
			out[i] = int64(int32(binary.LittleEndian.Uint32(t.Data[4*i:])))
		case I64:
			out[i] = int64(binary.LittleEndian.Uint64(t.Data[8*i:]))
		default:
			return nil, fmt.Errorf("tensor %q has dtype %s, not an integer type that fits int64", t.Name, t.DType)
		}
	}
	return out, nil
}

// toBrain rounds to nearest even. A NaN stays one: rounding its bits could make it an infinity.
func toBrain(v float32) uint16 {
	bits := math.Float32bits(v)
	if v != v {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// fromHalf widens an IEEE 754 half, exactly.
func fromHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h&0x8000)<<16, uint32(h>>10)&0x1f, uint32(h&0x3ff)
	switch exponent {
	case 0: // zero or subnormal: fraction · 2^-24
		v := float32(fraction) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 0x1f: // infinity or NaN
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

// toHalf rounds to nearest even.
func toHalf(v float32) uint16 {
	bits := math.Float32bits(v)
	sign, magnitude := uint16(bits>>16)&0x8000, bits&0x7fffffff
	switch {
	case magnitude > 0x7f800000: // NaN keeps the upper bits of its payload and is made quiet
		return sign | 0x7e00 | uint16(magnitude>>13&0x3ff)
	case magnitude >= 0x477ff000: // 65520 and more rounds to infinity
		return sign | 0x7c00
	case magnitude < 0x38800000: // below 2^-14: a multiple of 2^-24
		scaled := math.Float32frombits(magnitude) * (1 << 24)
		return sign | uint16(math.RoundToEven(float64(scaled)))
	}
	rounded := magnitude + 0xfff + magnitude>>13&1
	return sign | uint16((rounded-(127-15)<<23)>>13)
}
