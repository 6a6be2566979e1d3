package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/t5ctl/t5ctl/eval/signature"
)

// newJSONValid is the share of outputs that are one JSON value and, with the option schema=FILE, fit
// that JSON schema.
func newJSONValid(o *options) *Metric {
	path := o.text("schema", "")
	var schema *jsonschema.Schema
	digest := "none"
	m := simple("valid JSON", true, nil, mean100, func(s *Sample) (float64, bool) {
		v, err := parseJSON(s.Output)
		return truth(err == nil && (schema == nil || schema.Validate(v) == nil)), true
	})
	m.signature = func(refs int) signature.Signature { return own(field("schema", digest))(refs) }
	m.prepare = func() error {
		if path == "" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return &OptionValueError{o.metric, "schema", path, err.Error()}
		}
		c := jsonschema.NewCompiler()
		c.UseLoader(jsonschema.SchemeURLLoader{}) // a schema that points elsewhere is refused
		if err := c.AddResource("schema.json", doc); err != nil {
			return &OptionValueError{o.metric, "schema", path, err.Error()}
		}
		if schema, err = c.Compile("schema.json"); err != nil {
			return &OptionValueError{o.metric, "schema", path, err.Error()}
		}
		digest = digestBytes(text)[len("sha256:"):][:12]
		return nil
	}
	return m
}

// parseJSON reads exactly one value; numbers keep their digits.
func parseJSON(text string) (any, error) {
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the value")
	}
	return v, nil
}

// newJSONFields compares the fields of an output with those of the reference that it is nearest to:
// accuracy is the share of the reference's fields that have the same value, recall the share that the
// output has at all. A field is a value that is neither an object nor a list, with the way to it.
func newJSONFields(accuracy bool) maker {
	return func(*options) *Metric {
		label := map[bool]string{true: "JSON field accuracy", false: "JSON field recall"}[accuracy]
		return ratio(label, true, 100, own(field("ref", "nearest")), func(s *Sample) (part, total float64, ok bool) {
			got := map[string]string{}
			if v, err := parseJSON(s.Output); err == nil {
				jsonFields(got, "", v)
			}
			best := -1.0
			for _, r := range s.References {
				v, err := parseJSON(r)
				if err != nil {
					return 0, 0, false // a reference that is no JSON is a mistake in the data
				}
				want := map[string]string{}
				jsonFields(want, "", v)
				hits := 0.0
				for key, value := range want {
					have, there := got[key]
					hits += truth(there && (!accuracy || have == value))
				}
				share := 1.0
				if len(want) > 0 {
					share = hits / float64(len(want))
				}
				if share > best {
					best, part, total = share, hits, float64(len(want))
				}
			}
			return part, total, true
		})
	}
}

// jsonFields collects the leaves of a value; 1.0 and 1 are the same number.
func jsonFields(into map[string]string, at string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, x := range v {
			jsonFields(into, at+"/"+key, x)
		}
	case []any:
		for i, x := range v {
			jsonFields(into, at+"/"+strconv.Itoa(i), x)
		}
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			into[at] = v.String()
			return
		}
		into[at] = "number " + strconv.FormatFloat(f, 'g', -1, 64)
	default:
		into[at] = fmt.Sprintf("%T %v", v, v)
	}
}
