package sigma

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// boolean reads the value of exists.
func boolean(n *yaml.Node) (bool, error) {
	switch strings.ToLower(n.Value) {
	case "true", "yes":
		return true, nil
	case "false", "no":
		return false, nil
	}
	return false, fmt.Errorf("true or false is expected, not %.60q", n.Value)
}

// number is a numeric constant as JSON writes it.
func number(n *yaml.Node) (string, error) {
	if n.Tag == tagInt {
		var i int64
		if n.Decode(&i) == nil {
			return strconv.FormatInt(i, 10), nil
		}
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(n.Value), 64)
	if n.Tag == tagFloat {
		err = n.Decode(&f)
	}
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return "", fmt.Errorf("a number is expected, not %.60q", n.Value)
	}
	return formatFloat(f), nil
}

func formatFloat(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// scalars are the texts of a number or boolean: as it is written, and as JSON writes it.
func scalars(n *yaml.Node) []string {
	out := []string{n.Value}
	add := func(s string) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	switch n.Tag {
	case tagInt, tagFloat:
		if s, err := number(n); err == nil {
			add(s)
			if n.Tag == tagFloat && !strings.ContainsAny(s, ".e") {
				add(s + ".0")
			}
		}
	case tagBool:
		var b bool
		if n.Decode(&b) == nil {
			add(strconv.FormatBool(b))
		}
	}
	return out
}

func hasLetter(s string) bool {
	for i := range len(s) {
		if b := s[i]; b >= 0x80 || b|0x20 >= 'a' && b|0x20 <= 'z' {
			return true
		}
	}
	return false
}
