package target

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"whodunit/internal/alert/post"
	"whodunit/internal/rule"
)

// maxText bounds a message and a condition, in bytes.
const maxText = 4096

// Deployment is what Alertmanager is told of this server, as labels; those that are empty are left out.
type Deployment struct{ Instance, ID, Mode string }

// request makes the message of a job.
func (d Deployment) request(j job) (post.Request, error) {
	name, stream, message, condition := plain(j.rule.Title), plain(j.r.Cluster), plain(j.r.Message), plain(j.rule.Description)
	if j.kind == unsolved {
		message = fmt.Sprintf("not resolved after %d repeats, this is the last message: %s", j.at.Times, message)
	}
	if j.at.Type == "alertmanager" {
		return d.alertmanager(j, name, stream, message, condition)
	}
	text := fmt.Sprintf("%s triggered on %s\nMessage: %s\nFailing Condition: %s", name, stream, message, condition)
	if j.kind == resolved {
		text = fmt.Sprintf("%s on %s is now resolved ", name, stream)
	}
	if j.at.Type != "slack" {
		return post.Request{Type: "text/plain; charset=utf-8", Body: []byte(text)}, nil
	}
	// Slack reads <!channel> and links; a client's words are to be seen as they are.
	text = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
	body, err := json.Marshal(map[string]string{"text": text})
	return post.Request{Body: body}, err
}

// alertmanager makes an array of one alert. Its labels are its identity, so the status stays what it was: endsAt says that it is over, and
// one with other labels would be another alert, which leaves the first to its fate.
func (d Deployment) alertmanager(j job, name, stream, message, condition string) (post.Request, error) {
	labels := map[string]string{}
	for k, v := range j.at.Labels {
		labels[k] = plain(v)
	}
	for k, v := range map[string]string{"alertname": name, "stream": stream, "status": "firing",
		"deployment_instance": d.Instance, "deployment_id": d.ID, "deployment_mode": d.Mode} {
		if v != "" {
			labels[k] = v
		}
	}
	one := struct {
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
		EndsAt      string            `json:"endsAt,omitempty"`
	}{Labels: labels, Annotations: map[string]string{"message": message, "reason": condition}}
	if j.kind == resolved {
		one.EndsAt = j.r.Ended.UTC().Format(time.RFC3339Nano)
	}
	body, err := json.Marshal([]any{one})
	return post.Request{Body: body}, err
}

// plain is s on one line, without what would make it look like something else.
func plain(s string) string {
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' || c >= '\u202a' && c <= '\u202e' || c >= '\u2066' && c <= '\u2069' {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "\ufffd"))
	return rule.Shorten(s, maxText)
}
