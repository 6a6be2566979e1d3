package registry

import (
	"context"
	"fmt"
	"time"
)

// Moment is a place in a log: a sequence number, or a time as the writers' clocks told it.
// Neither set: the end.
type Moment struct {
	Seq  int64
	Time time.Time
}

// ChannelHistory is what happened to one channel, and what it served at the moment asked for.
type ChannelHistory struct {
	Model   string    `json:"model"`
	Channel string    `json:"channel,omitempty"`
	Events  []Event   `json:"events"`            // oldest first, up to the moment
	Serving *Target   `json:"serving,omitempty"` // at that moment; nil: nothing
	Head    LogEnding `json:"head"`              // of the whole log, to compare with what one has seen
}

// LogEnding is the end of a log as people compare it.
type LogEnding struct {
	Seq    int64  `json:"seq"`
	Digest string `json:"digest"`
}

// History tells what happened to a channel up to a moment, refusals included; with no channel,
// everything that happened to the model.
func (r *Registry) History(ctx context.Context, model, channel string, at Moment) (ChannelHistory, error) {
	s, err := r.known(ctx, model)
	if err != nil {
		return ChannelHistory{}, err
	}
	if at.Seq > s.head.Seq || at.Seq < 0 {
		return ChannelHistory{}, &RequestError{fmt.Sprintf("the log of %s has %d records, there is no record %d", model, s.head.Seq, at.Seq)}
	}
	history := ChannelHistory{Model: model, Channel: channel, Events: []Event{}, Head: LogEnding(s.head)}
	known := false
	for _, record := range s.records {
		e := record.Event
		if channel != "" && e.Channel != channel {
			continue
		}
		known = true
		if at.Seq > 0 && e.Seq > at.Seq || !at.Time.IsZero() && e.Time.After(at.Time) {
			continue
		}
		history.Events = append(history.Events, e)
		if e.Kind == KindPromote || e.Kind == KindRollback {
			history.Serving = e.To
		}
	}
	if !known {
		ref := Ref{Model: model, Channel: channel}
		return ChannelHistory{}, &NotFoundError{Ref: ref, Nearest: s.nearest(ref)}
	}
	if channel == "" {
		history.Serving = nil
	}
	return history, nil
}
