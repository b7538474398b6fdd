package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds the configuration file in bytes; YAML of this size takes well below a second to parse.
const maxFile = 4 << 20

// Load reads and checks the file at path over the defaults. An empty path is the defaults alone. Every error found is
// reported at once (errors.Join of *Error).
func Load(path string) (Config, error) {
	if path == "" {
		c := Default()
		return c, c.Validate()
	}
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("it has %d bytes, more than %d", info.Size(), maxFile)
	}
	if err != nil {
		return Config{}, fmt.Errorf("cannot read configuration: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("cannot read configuration: %w", err)
	}
	return Parse(path, data, os.Getenv)
}

// Parse is Load of data already read; file is its name in errors, getenv gives the environment.
func Parse(file string, data []byte, getenv func(string) string) (Config, error) {
	c := defaults(getenv)
	d := &decoder{file: file, at: map[string]*yaml.Node{}, failed: map[string]bool{}}
	d.decode(data, &c)
	if dir := getenv("WHODUNIT_DATA"); dir != "" {
		c.DataDir = dir
	}
	expand(&c, getenv, d.invalid)
	c.check(d.invalid)
	if err := d.err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// expand replaces ${NAME} in the file names of secrets, and nowhere else: a configuration that could pull any variable
// into any field would leak them.
func expand(c *Config, getenv func(string) string, report func(path, message string)) {
	walk(reflect.ValueOf(c).Elem(), "", func(path string, f reflect.StructField, v reflect.Value) {
		if !isSecretFile(f) {
			return
		}
		v.SetString(os.Expand(v.String(), func(name string) string {
			val := getenv(name)
			if val == "" {
				report(path, "the environment variable "+name+" is not set")
			}
			return val
		}))
	})
}

func isSecretFile(f reflect.StructField) bool {
	name := f.Tag.Get("yaml")
	return name == "token_file" || name == "password_file" || strings.HasSuffix(name, "_secret_file")
}

// ReadSecret reads a secret from its file, without the white space around it. An empty file is an error. The error never
// holds the secret.
func ReadSecret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("cannot read secret: %w", err)
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", fmt.Errorf("cannot read secret: %s is empty", path)
	}
	return s, nil
}

// Validate checks a configuration that was made by code. Every error found is reported at once.
func (c Config) Validate() error {
	var errs []error
	c.check(func(path, message string) { errs = append(errs, &Error{Path: path, Message: message}) })
	return errors.Join(errs...)
}

// walk calls f for every field below v that is not a group, elements of lists of groups included.
func walk(v reflect.Value, path string, f func(path string, field reflect.StructField, v reflect.Value)) {
	for i := range v.NumField() {
		field, fv := v.Type().Field(i), v.Field(i)
		p := join(path, field.Tag.Get("yaml"))
		switch {
		case fv.Kind() == reflect.Struct:
			walk(fv, p, f)
		case fv.Kind() == reflect.Slice && fv.Type().Elem().Kind() == reflect.Struct:
			for j := range fv.Len() {
				walk(fv.Index(j), fmt.Sprintf("%s[%d]", p, j), f)
			}
		default:
			f(p, field, fv)
		}
	}
}
