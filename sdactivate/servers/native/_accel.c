/* The compiled twin of the native server's hot path.

   Principle. Everything here has an original in Python, which handles every case and makes all
   decisions: limits, refusals and their wording, who is trusted, deadlines, logging, what happens
   to a peer that reads only half of a response. The code here handles one form of each thing, the
   plain form, which nearly every request and response has. It leaves everything else, unchanged and
   without a message, to the original. It never refuses anything.

   So there are two rules, and the tests check both with arbitrary bytes:

   - What this code handles, the original handles with the same result.
   - What this code does not handle, it leaves unchanged: the original starts from the beginning.

   A reading function returns None for "not plain"; in C that is the verdict UNUSUAL. The price is
   that rare requests are read twice; the benefit is that no message, status code or policy exists
   twice.

   A request over SCGI, uwsgi and FastCGI is plain if: its whole header arrived in one read, and
   over SCGI and uwsgi its whole body, too; there are at most 128 variables, none of them repeated;
   the method is known; the host has been checked before; there is a PATH_INFO; SCRIPT_NAME is empty
   or has been checked before; lengths and flags have their usual spelling. For FastCGI: the records
   are BEGIN_REQUEST, one of PARAMS, and the empty one of PARAMS, with nothing before or between them.
   If only the empty record of STDIN follows, the request is complete. Records of a body are left to
   the Python code.

   A request over HTTP is plain in this form (its whole header arrived in one read, and nothing
   behind its body; the rest of a body is left to the Python code, everything else to llhttp):

     method            GET HEAD POST PUT PATCH DELETE OPTIONS, and one space
     target            "/", then any of 0x21-0x7e except "#"; one space
     version           HTTP/1.1 and CR LF
     field name        letters, digits, "-"; at least one; not at the beginning of a folded line
     colon             right after the name; then spaces and tabs
     field value       0x20-0x7e and tabs; CR LF
     Host              exactly once, with a value that has been checked before
     Content-Length    at most once: 1 to 18 digits, without leading zeros except "0" itself
     Connection        at most once: "keep-alive" or "close", in this spelling
     any other field   at most once, and at most 128 in all; none of Transfer-Encoding, TE, Trailer,
                       Expect, Upgrade, Proxy-Connection, HTTP2-Settings and other fields that the
                       parser or the server interprets
     the end           an empty line; then nothing, or exactly the body of Content-Length bytes
     sizes             within the limits (the original reports those that are not)

   A connection is plain if: over HTTP it is idle, with no earlier bytes of a request and no pending
   output; over SCGI and uwsgi nothing has arrived on it before, and it is a unix socket's. A thread
   is plain if: it need not wait for its turn in the application, the main loop does not wait for the
   next request, and no access log is written.

   A response is plain if: its status was seen before, and allows a body; its headers are a list of
   tuples of printable ASCII, none of them about the connection; its body is available, has the
   stated length, and is short enough to be copied behind its head; and the peer accepts all of it at
   once.

   The global lock is held throughout, also in system calls: the descriptors do not block, and a call
   that returns within microseconds costs less than releasing the lock and getting it back from
   threads that compute.

   Ownership: a variable called `known` is borrowed from its table; everything else is owned by its
   creator, and released at one `done:` or by the single caller. Only documented parts of the C API
   are used. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef enum { FAILED = -1, UNUSUAL = 0, PLAIN = 1 } Verdict;

enum { SCGI, UWSGI, HTTP, FASTCGI }; /* how requests and responses are framed */

typedef struct {
    const char *at;
    Py_ssize_t size;
} Slice;

static int
is_same(Slice slice, const char *text)
{
    size_t size = strlen(text);
    return (size_t)slice.size == size && memcmp(slice.at, text, size) == 0;
}

static PyObject *
text_of(Slice slice)
{
    return PyUnicode_DecodeLatin1(slice.at, slice.size, NULL);
}

/* Digits of a number that any Py_ssize_t can hold */
#define MOST_DIGITS (sizeof(Py_ssize_t) < 8 ? 9 : 18)

static int
is_number(Slice slice, Py_ssize_t most)
{
    if (slice.size < 1 || slice.size > most)
        return 0;
    for (Py_ssize_t i = 0; i < slice.size; i++)
        if (slice.at[i] < '0' || slice.at[i] > '9')
            return 0;
    return 1;
}

static Py_ssize_t
number_of(Slice slice)
{
    Py_ssize_t number = 0;
    for (Py_ssize_t i = 0; i < slice.size; i++)
        number = number * 10 + (slice.at[i] - '0');
    return number;
}

/* Keys and values that are the same in every environ. */
static PyObject *key_method, *key_protocol, *key_uri, *key_path, *key_query, *key_scheme;
static PyObject *key_mount, *key_client, *key_input, *key_hints;
static PyObject *value_http11, *value_https;

/* -- Names: the meaning of a name on the wire, asked from Python once and cached ---------------- */

/* Usual names are few, but a peer may invent others: so the cache is a table of fixed size, in which
   a new name replaces an older one. The last value of each name is cached as well, since most values
   are the same in the next request. */

#define BUCKETS 64
#define WAYS 4
#define LONGEST_NAME 63
#define LONGEST_VALUE 128

typedef struct {
    uint64_t hash;
    PyObject *key;   /* the environ's key, NULL if there is none */
    PyObject *value; /* the last value, NULL before the first */
    unsigned char kind;
    unsigned char length; /* 0: the slot is free */
    char spelling[LONGEST_NAME];
} Name;

typedef struct {
    PyObject *meaning; /* bytes -> (key or None, kind) */
    unsigned learned;  /* number of names learnt; if it changes, an entry may be another name's */
    Name table[BUCKETS][WAYS];
} Names;

static uint64_t
hash_of(Slice name)
{
    const uint64_t odd = 0x9E3779B97F4A7C15u;
    uint64_t hash = (uint64_t)name.size * odd, word;
    const char *at = name.at;
    Py_ssize_t left = name.size;
    for (; left >= 8; at += 8, left -= 8) {
        memcpy(&word, at, 8);
        hash = (hash ^ word) * odd;
        hash ^= hash >> 32;
    }
    for (word = 0; left > 0; left--)
        word = word << 8 | (unsigned char)*at++;
    hash = (hash ^ word) * odd;
    return hash ^ hash >> 32;
}

static void
forget_name(Name *name)
{
    PyObject *key = name->key, *value = name->value;
    name->key = name->value = NULL;
    name->length = 0;
    Py_XDECREF(key);
    Py_XDECREF(value);
}

static Name *
learn(Names *names, Slice spelt, uint64_t hash)
{
    PyObject *answer = PyObject_CallFunction(names->meaning, "y#", spelt.at, spelt.size);
    if (answer == NULL)
        return NULL;
    PyObject *key;
    int kind;
    if (!PyTuple_Check(answer) || !PyArg_ParseTuple(answer, "Oi", &key, &kind)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "meaning() must return a key and a kind");
        Py_DECREF(answer);
        return NULL;
    }
    Name *name = &names->table[hash % BUCKETS][names->learned++ % WAYS];
    forget_name(name);
    if (key != Py_None) {
        Py_INCREF(key);
        name->key = key;
    }
    name->hash = hash;
    name->kind = (unsigned char)kind;
    name->length = (unsigned char)spelt.size;
    memcpy(name->spelling, spelt.at, (size_t)spelt.size);
    Py_DECREF(answer);
    return name;
}

/* The entry of a name of 1 to LONGEST_NAME bytes, borrowed until the next call; NULL: an error. */
static Name *
look_up(Names *names, Slice spelt)
{
    uint64_t hash = hash_of(spelt);
    Name *bucket = names->table[hash % BUCKETS];
    for (int way = 0; way < WAYS; way++) {
        Name *name = bucket + way;
        if (name->hash == hash && name->length == spelt.size
            && memcmp(name->spelling, spelt.at, (size_t)spelt.size) == 0)
            return name;
    }
    return learn(names, spelt, hash);
}

static int
is_nameable(Slice spelt)
{
    return spelt.size > 0 && spelt.size <= LONGEST_NAME;
}

static int
is_text(PyObject *text, Slice value)
{
    return text != NULL && PyUnicode_GET_LENGTH(text) == value.size
           && memcmp(PyUnicode_1BYTE_DATA(text), value.at, (size_t)value.size) == 0;
}

/* The text of a value (a new reference): the same object as last time if the text is the same. */
static PyObject *
value_of(Name *known, Slice value)
{
    PyObject *last = known->value;
    if (is_text(last, value))
        return Py_INCREF(last), last;
    PyObject *text = text_of(value);
    if (text != NULL && value.size <= LONGEST_VALUE) {
        Py_INCREF(text);
        known->value = text;
        Py_XDECREF(last);
    }
    return text;
}

static int
visit_names(Names *names, visitproc visit, void *arg)
{
    Py_VISIT(names->meaning);
    return 0; /* all others are strings */
}

static void
clear_names(Names *names)
{
    Py_CLEAR(names->meaning);
    for (int bucket = 0; bucket < BUCKETS; bucket++)
        for (int way = 0; way < WAYS; way++)
            forget_name(&names->table[bucket][way]);
}

/* -- Patterns: names that occur together, and the last environ that was built from them ---------- */

/* A request usually has the same names as an earlier one, in the same order, given by the front's
   configuration and the client's browser. So for some such sequences of names the last environ is
   kept, in its state before variables were derived from others. For a request with the same names,
   only the values are compared; its environ is a copy, in which the values that differ are replaced.
   Nothing of another request can remain in it, since each slot is compared each time. */

#define MOST_NAMES 128
#define PATTERNS 4

typedef struct {
    Slice name, value;
} Pair;

typedef struct {
    Name *known;
    PyObject *text; /* borrowed from one of the pattern's dictionaries; NULL: in none */
} Slot;

typedef struct {
    PyObject *environ;   /* NULL: this entry is unused */
    PyObject *forwarded; /* HTTP: what a front says about its client; NULL: nothing */
    unsigned learned;    /* the pattern is valid only while Names.learned has this value */
    Py_ssize_t count;
    Slot slots[MOST_NAMES];
} Pattern;

typedef struct {
    unsigned next; /* the entry that the next new one replaces */
    unsigned turn; /* changes whenever one of them changes or is used */
    Pattern table[PATTERNS];
} Patterns;

static int
has_names(const Pattern *pattern, const Pair *pairs)
{
    for (Py_ssize_t i = 0; i < pattern->count; i++) {
        const Name *known = pattern->slots[i].known;
        Slice name = pairs[i].name;
        if (known->length != name.size || memcmp(known->spelling, name.at, (size_t)name.size) != 0)
            return 0;
    }
    return 1;
}

/* The pattern of these names, NULL if there is none. */
static Pattern *
pattern_of(Patterns *patterns, const Names *names, const Pair *pairs, Py_ssize_t count)
{
    for (Pattern *each = patterns->table; each < patterns->table + PATTERNS; each++)
        if (each->environ != NULL && each->learned == names->learned && each->count == count
            && has_names(each, pairs))
            return each;
    return NULL;
}

/* Put a value into a pattern's environ, unless it is there already. */
static Verdict
refresh(Pattern *pattern, Slot *slot, Slice value)
{
    if (is_text(slot->text, value))
        return PLAIN;
    PyObject *text = value_of(slot->known, value);
    if (text == NULL)
        return FAILED;
    int failed = PyDict_SetItem(pattern->environ, slot->known->key, text);
    if (!failed)
        slot->text = text;
    Py_DECREF(text);
    return failed ? FAILED : PLAIN;
}

/* The environ of a pattern that has been refreshed: a new reference, NULL with an error, or NULL
   without one. Creating a dictionary can start a garbage collection, and so let other threads run. */
static PyObject *
copy_of(Patterns *patterns, const Pattern *pattern)
{
    unsigned turn = ++patterns->turn;
    PyObject *source = (Py_INCREF(pattern->environ), pattern->environ);
    PyObject *environ = PyDict_Copy(source);
    Py_DECREF(source);
    if (patterns->turn != turn)
        Py_CLEAR(environ);
    return environ;
}

/* Keep an environ as a pattern, if no name was learnt since `learned`; the slots say where in it, or
   in `forwarded`, each name's value is. */
static int
remember(Patterns *patterns, const Names *names, unsigned learned, PyObject *environ,
         PyObject *forwarded, const Slot *slots, Py_ssize_t count)
{
    if (names->learned != learned)
        return 0;
    unsigned turn = patterns->turn;
    PyObject *copy = PyDict_Copy(environ);
    if (copy == NULL)
        return -1;
    if (names->learned != learned || patterns->turn != turn) { /* or the base is another one */
        Py_DECREF(copy);
        return 0;
    }
    patterns->turn++;
    Pattern *pattern = &patterns->table[patterns->next++ % PATTERNS];
    PyObject *old[] = {pattern->environ, pattern->forwarded};
    Py_XINCREF(forwarded);
    pattern->environ = copy;
    pattern->forwarded = forwarded;
    pattern->learned = learned;
    pattern->count = count;
    memcpy(pattern->slots, slots, (size_t)count * sizeof *slots);
    Py_XDECREF(old[0]);
    Py_XDECREF(old[1]);
    return 0;
}

static int
visit_patterns(Patterns *patterns, visitproc visit, void *arg)
{
    for (int i = 0; i < PATTERNS; i++) {
        Py_VISIT(patterns->table[i].environ);
        Py_VISIT(patterns->table[i].forwarded);
    }
    return 0;
}

static void
clear_patterns(Patterns *patterns)
{
    patterns->turn++;
    for (int i = 0; i < PATTERNS; i++) {
        Py_CLEAR(patterns->table[i].environ);
        Py_CLEAR(patterns->table[i].forwarded);
    }
}

/* -- SCGI, uwsgi, FastCGI: variables -> environ ------------------------------------------------- */

/* The kinds of variables for the server. From METHOD on a kind has one name, which occurs once; from
   QUERY on the base has a default for it. */
enum {
    VARIABLE,
    DROPPED,
    ODD, /* a name that the base has: left to the original */
    METHOD,
    HOST,
    LENGTH,
    HTTPS,
    SCHEME,
    QUERY,
    PORT,
    PROTOCOL,
    SOFTWARE,
    SERVER,
    MOUNT,
    PATH,
    KINDS
};

typedef struct {
    PyObject_HEAD
    PyObject *base;    /* the initial content of every environ */
    PyObject *methods; /* the known methods */
    PyObject *hosts;   /* the hosts that were checked */
    PyObject *mounts;  /* the mounts that were checked */
    Names names;
    Patterns patterns;
} Variables;

/* A request that is being read. `values` are borrowed from the environ. */
typedef struct {
    PyObject *environ;
    PyObject *values[KINDS];
    Slice length, https, scheme; /* at == NULL: not present */
} Reading;

/* Keep the bytes of a variable that affects others; return whether it goes into the environ. */
static int
keep_slice(Reading *reading, int kind, Slice value)
{
    switch (kind) {
    case LENGTH:
        reading->length = value;
        return is_number(value, MOST_DIGITS);
    case HTTPS:
        reading->https = value;
        return is_same(value, "on");
    case SCHEME:
        reading->scheme = value;
    }
    return 1;
}

/* Read variables one by one, and fill the slots. */
static Verdict
read_variables(Variables *self, Reading *reading, const Pair *pairs, Py_ssize_t count, Slot *slots)
{
    Py_ssize_t added = 0;  /* keys that the base does not have */
    unsigned seen = 0;     /* a bit for each kind from METHOD on */
    reading->environ = PyDict_Copy(self->base);
    if (reading->environ == NULL)
        return FAILED;
    for (Py_ssize_t i = 0; i < count; i++) {
        Slice name = pairs[i].name, value = pairs[i].value;
        if (!is_nameable(name))
            return UNUSUAL;
        Name *known = look_up(&self->names, name);
        if (known == NULL)
            return FAILED;
        slots[i] = (Slot){known, NULL};
        int kind = known->kind;
        if (kind == DROPPED)
            continue;
        if (kind == ODD || known->key == NULL || (kind >= METHOD && seen & 1u << kind))
            return UNUSUAL;
        seen |= 1u << kind;
        if (!keep_slice(reading, kind, value))
            continue;
        PyObject *key = known->key, *text = value_of(known, value);
        if (text == NULL)
            return FAILED;
        int failed = PyDict_SetItem(reading->environ, key, text);
        Py_DECREF(text);
        if (failed)
            return FAILED;
        reading->values[kind] = slots[i].text = text;
        added += kind < QUERY;
    }
    return PyDict_Size(reading->environ) == PyDict_Size(self->base) + added ? PLAIN
                                                                            : UNUSUAL; /* one is repeated */
}

/* The same with a pattern. */
static Verdict
refresh_variables(Variables *self, Reading *reading, const Pair *pairs, Pattern *pattern)
{
    self->patterns.turn++; /* in any case: the slots now have other values */
    for (Py_ssize_t i = 0; i < pattern->count; i++) {
        Slot *slot = pattern->slots + i;
        int kind = slot->known->kind;
        if (kind == DROPPED)
            continue;
        int is_kept = keep_slice(reading, kind, pairs[i].value);
        if (is_kept != (slot->text != NULL))
            return UNUSUAL;
        if (is_kept && refresh(pattern, slot, pairs[i].value) == FAILED)
            return FAILED;
        reading->values[kind] = slot->text;
    }
    reading->environ = copy_of(&self->patterns, pattern);
    return reading->environ != NULL ? PLAIN : PyErr_Occurred() ? FAILED : UNUSUAL;
}

/* Read variables, with a pattern if there is one. */
static Verdict
take_variables(Variables *self, Reading *reading, const Pair *pairs, Py_ssize_t count)
{
    Pattern *pattern = pattern_of(&self->patterns, &self->names, pairs, count);
    if (pattern != NULL) {
        Verdict verdict = refresh_variables(self, reading, pairs, pattern);
        if (verdict != UNUSUAL)
            return verdict;
        *reading = (Reading){0};
    }
    unsigned learned = self->names.learned;
    Slot slots[MOST_NAMES];
    Verdict verdict = read_variables(self, reading, pairs, count, slots);
    if (verdict == PLAIN
        && remember(&self->patterns, &self->names, learned, reading->environ, NULL, slots, count))
        return FAILED;
    return verdict;
}

static Verdict
is_among(PyObject *set, PyObject *text)
{
    return (Verdict)PySet_Contains(set, text);
}

static Verdict
set_scheme(Reading *reading)
{
    Slice given = reading->https;
    int is_https = given.at != NULL ? is_same(given, "on")
                                    : reading->scheme.at != NULL && is_same(reading->scheme, "https");
    if (given.at != NULL && !is_https && given.size && !is_same(given, "off"))
        return UNUSUAL;
    if (!is_https)
        return PLAIN;
    return PyDict_SetItem(reading->environ, key_scheme, value_https) ? FAILED : PLAIN;
}

static Verdict
check_path(Variables *self, Reading *reading)
{
    PyObject *path = reading->values[PATH], *mount = reading->values[MOUNT];
    int is_mounted = mount != NULL && PyUnicode_GET_LENGTH(mount) > 0;
    if (path == NULL)
        return UNUSUAL; /* the original derives it from the URI */
    if (is_mounted) {
        Verdict verdict = is_among(self->mounts, mount);
        if (verdict != PLAIN)
            return verdict;
    }
    if (PyUnicode_GET_LENGTH(path) == 0)
        return is_mounted ? PLAIN : UNUSUAL;
    return PyUnicode_READ_CHAR(path, 0) == '/' ? PLAIN : UNUSUAL;
}

/* All variables are read: check whether the request is plain, and derive variables from others. */
static Verdict
complete(Variables *self, Reading *reading)
{
    PyObject *method = reading->values[METHOD], *host = reading->values[HOST];
    PyObject *server = reading->values[SERVER];
    if (method == NULL)
        return UNUSUAL;
    Verdict verdict = is_among(self->methods, method);
    if (verdict == PLAIN && host != NULL && PyUnicode_GET_LENGTH(host) > 0)
        verdict = is_among(self->hosts, host);
    if (verdict != PLAIN)
        return verdict;
    Slice length = reading->length;
    if (length.size && !is_number(length, MOST_DIGITS) && !is_same(length, "-1"))
        return UNUSUAL;
    if (server != NULL
        && memchr(PyUnicode_1BYTE_DATA(server), ':', (size_t)PyUnicode_GET_LENGTH(server)))
        return UNUSUAL;
    verdict = check_path(self, reading);
    return verdict == PLAIN ? set_scheme(reading) : verdict;
}

/* The three framings. Each splits a block into names and values, and returns their number, or -1 if
   they are too many or framed incorrectly. */

static Py_ssize_t
split_scgi(Slice block, Pair *pairs)
{
    const char *at = block.at, *end = at + block.size;
    Py_ssize_t count = 0;
    for (; at < end; count++) { /* the block ends with NUL */
        const char *middle = memchr(at, 0, (size_t)(end - at));
        if (middle + 1 >= end || count == MOST_NAMES)
            return -1; /* a name without a value */
        const char *stop = memchr(middle + 1, 0, (size_t)(end - middle - 1));
        pairs[count] = (Pair){{at, middle - at}, {middle + 1, stop - middle - 1}};
        at = stop + 1;
    }
    return count;
}

static unsigned
byte_at(const char *at)
{
    return (unsigned char)*at;
}

/* Take a slice after its length of two bytes; return whether it is there. */
static int
next_uwsgi(Slice *rest, Slice *found)
{
    if (rest->size < 2)
        return 0;
    Py_ssize_t size = (Py_ssize_t)(byte_at(rest->at) | byte_at(rest->at + 1) << 8);
    if (size > rest->size - 2)
        return 0;
    *found = (Slice){rest->at + 2, size};
    *rest = (Slice){rest->at + 2 + size, rest->size - 2 - size};
    return 1;
}

static Py_ssize_t
split_uwsgi(Slice rest, Pair *pairs)
{
    Py_ssize_t count = 0;
    for (; rest.size; count++)
        if (count == MOST_NAMES || !next_uwsgi(&rest, &pairs[count].name)
            || !next_uwsgi(&rest, &pairs[count].value))
            return -1;
    return count;
}

/* Take a length of one byte or four (section 3.4); return whether it is there. */
static int
next_length(Slice *rest, Py_ssize_t *length)
{
    if (!rest->size)
        return 0;
    const char *at = rest->at;
    Py_ssize_t size = byte_at(at) < 128 ? 1 : 4;
    if (rest->size < size)
        return 0;
    *length = (Py_ssize_t)(size == 1 ? byte_at(at)
                                     : (byte_at(at) & 127) << 24 | byte_at(at + 1) << 16
                                           | byte_at(at + 2) << 8 | byte_at(at + 3));
    *rest = (Slice){at + size, rest->size - size};
    return 1;
}

static Py_ssize_t
split_fastcgi(Slice rest, Pair *pairs)
{
    Py_ssize_t count = 0;
    for (; rest.size; count++) {
        Py_ssize_t name, value;
        if (count == MOST_NAMES || !next_length(&rest, &name) || !next_length(&rest, &value)
            || name > rest.size || value > rest.size - name)
            return -1;
        pairs[count] = (Pair){{rest.at, name}, {rest.at + name, value}};
        rest = (Slice){rest.at + name + value, rest.size - name - value};
    }
    return count;
}

typedef Py_ssize_t (*Framing)(Slice, Pair *);

/* The environ of a block of variables, and the length of the body, 0 if it is not given: a new
   reference, NULL with an error, or NULL without one. */
static PyObject *
environ_of(Variables *self, Framing split, Slice block, Py_ssize_t *length)
{
    Pair pairs[MOST_NAMES];
    Py_ssize_t count = split(block, pairs);
    if (count < 0)
        return NULL;
    Reading reading = {0};
    Verdict verdict = take_variables(self, &reading, pairs, count);
    if (verdict == PLAIN)
        verdict = complete(self, &reading);
    if (verdict != PLAIN)
        Py_CLEAR(reading.environ);
    *length = is_number(reading.length, MOST_DIGITS) ? number_of(reading.length) : 0;
    return reading.environ;
}

/* The result if there is no environ: an error, or None for "not plain". */
static PyObject *
nothing(void)
{
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* Parse the arguments, bytes and a limit; the verdict says whether they can be read here. */
static int
arguments(PyObject *const *args, Py_ssize_t count, Slice *data, Py_ssize_t *limit)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "expected data and a limit");
        return -1;
    }
    *limit = PyLong_AsSsize_t(args[1]);
    if (*limit == -1 && PyErr_Occurred())
        return -1;
    if (!PyBytes_CheckExact(args[0]))
        return 0; /* a bytearray has data that came in pieces */
    *data = (Slice){PyBytes_AS_STRING(args[0]), PyBytes_GET_SIZE(args[0])};
    return 1;
}

#define ARGUMENTS(data, limit)                                                                      \
    Slice data;                                                                                     \
    Py_ssize_t limit;                                                                               \
    switch (arguments(args, count, &data, &limit)) {                                                \
    case -1:                                                                                        \
        return NULL;                                                                                \
    case 0:                                                                                         \
        Py_RETURN_NONE;                                                                             \
    }

/* The block of variables in an SCGI request or a uwsgi packet, and the offset of what follows it;
   return whether the whole block is there. */

static int
find_scgi(Slice data, Py_ssize_t limit, Slice *block, Py_ssize_t *end)
{
    Py_ssize_t at = 0, size = 0;
    while (at < data.size && at < 9 && data.at[at] >= '0' && data.at[at] <= '9')
        size = size * 10 + (data.at[at++] - '0');
    if (at == 0 || data.at[0] == '0' || at >= data.size || data.at[at] != ':' || size > limit)
        return 0;
    *block = (Slice){data.at + at + 1, size};
    *end = at + 1 + size + 1;
    return *end <= data.size && data.at[*end - 1] == ',' && data.at[*end - 2] == 0;
}

static int
find_uwsgi(Slice data, Py_ssize_t limit, Slice *block, Py_ssize_t *end)
{
    if (data.size < 4 || data.at[0] != 0)
        return 0;
    Py_ssize_t size = (Py_ssize_t)(byte_at(data.at + 1) | byte_at(data.at + 2) << 8);
    *block = (Slice){data.at + 4, size};
    *end = 4 + size;
    return size != 0 && size <= limit && *end <= data.size;
}

typedef struct {
    int (*find)(Slice, Py_ssize_t, Slice *, Py_ssize_t *);
    Framing split;
} OneShot;

static const OneShot one_shots[] = {[SCGI] = {find_scgi, split_scgi},
                                    [UWSGI] = {find_uwsgi, split_uwsgi}};

/* The environ of the request that `data` begins with, and the offset and length of its body; returns
   as `environ_of` does. */
static PyObject *
read_one_shot(Variables *self, int dialect, Slice data, Py_ssize_t limit, Slice *body)
{
    Slice block;
    Py_ssize_t end;
    if (!one_shots[dialect].find(data, limit, &block, &end))
        return NULL;
    PyObject *environ = environ_of(self, one_shots[dialect].split, block, &body->size);
    body->at = data.at + end;
    return environ;
}

static PyObject *
variables_read(PyObject *object, PyObject *const *args, Py_ssize_t count, int dialect)
{
    ARGUMENTS(data, limit)
    Slice body;
    PyObject *environ = read_one_shot((Variables *)object, dialect, data, limit, &body);
    return environ == NULL ? nothing() : Py_BuildValue("Nn", environ, body.at - data.at);
}

static PyObject *
variables_scgi(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    return variables_read(object, args, count, SCGI);
}

static PyObject *
variables_uwsgi(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    return variables_read(object, args, count, UWSGI);
}

/* Take the head of a FastCGI record of this type and request; its content. */
static int
next_record(Slice *rest, unsigned type, unsigned number, Slice *content)
{
    const char *at = rest->at;
    if (rest->size < 8 || byte_at(at) != 1 || byte_at(at + 1) != type)
        return 0;
    if ((byte_at(at + 2) << 8 | byte_at(at + 3)) != number)
        return 0;
    Py_ssize_t length = (Py_ssize_t)(byte_at(at + 4) << 8 | byte_at(at + 5));
    Py_ssize_t size = 8 + length + (Py_ssize_t)byte_at(at + 6);
    if (size > rest->size)
        return 0;
    *content = (Slice){at + 8, length};
    *rest = (Slice){at + size, rest->size - size};
    return 1;
}

enum { BEGIN_REQUEST = 1, PARAMS = 4, STDIN = 5 };

static PyObject *
variables_fastcgi(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    ARGUMENTS(rest, limit)
    if (rest.size < 8)
        Py_RETURN_NONE;
    unsigned number = byte_at(rest.at + 2) << 8 | byte_at(rest.at + 3);
    Slice begin, params, end, body;
    if (number == 0 || !next_record(&rest, BEGIN_REQUEST, number, &begin) || begin.size < 8
        || byte_at(begin.at) != 0 || byte_at(begin.at + 1) != 1 /* a responder */
        || !next_record(&rest, PARAMS, number, &params) || !params.size || params.size > limit
        || !next_record(&rest, PARAMS, number, &end) || end.size || !rest.size)
        Py_RETURN_NONE;
    Slice behind = rest;
    if (next_record(&rest, STDIN, number, &body) && !body.size) {
        if (rest.size)
            Py_RETURN_NONE;
        behind = rest;
    }
    PyObject *keep = byte_at(begin.at + 2) & 1 ? Py_True : Py_False;
    Py_ssize_t length;
    PyObject *environ = environ_of((Variables *)object, split_fastcgi, params, &length);
    return environ == NULL ? nothing() : Py_BuildValue("NIOn", environ, number, keep, behind.size);
}

static int
variables_init(PyObject *object, PyObject *args, PyObject *keywords)
{
    Variables *self = (Variables *)object;
    PyObject *base, *methods, *hosts, *mounts, *meaning;
    if (!PyArg_ParseTuple(args, "O!OOOO:Variables", &PyDict_Type, &base, &methods, &hosts, &mounts,
                          &meaning))
        return -1;
    if (self->base != NULL) {
        PyErr_SetString(PyExc_TypeError, "a Variables object can't be initialized twice");
        return -1;
    }
    if (!PyAnySet_Check(methods) || !PyAnySet_Check(hosts) || !PyAnySet_Check(mounts)) {
        PyErr_SetString(PyExc_TypeError, "methods, hosts and mounts must be sets");
        return -1;
    }
    self->base = (Py_INCREF(base), base);
    self->methods = (Py_INCREF(methods), methods);
    self->hosts = (Py_INCREF(hosts), hosts);
    self->mounts = (Py_INCREF(mounts), mounts);
    self->names.meaning = (Py_INCREF(meaning), meaning);
    return 0;
}

static int
variables_traverse(PyObject *object, visitproc visit, void *arg)
{
    Variables *self = (Variables *)object;
    Py_VISIT(self->base);
    Py_VISIT(self->methods);
    Py_VISIT(self->hosts);
    Py_VISIT(self->mounts);
    if (visit_patterns(&self->patterns, visit, arg))
        return 1;
    return visit_names(&self->names, visit, arg);
}

static int
variables_clear(PyObject *object)
{
    Variables *self = (Variables *)object;
    Py_CLEAR(self->base);
    Py_CLEAR(self->methods);
    Py_CLEAR(self->hosts);
    Py_CLEAR(self->mounts);
    clear_patterns(&self->patterns);
    clear_names(&self->names);
    return 0;
}

static void
variables_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    variables_clear(object);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef variables_methods[] = {
    {"scgi", (PyCFunction)(void (*)(void))variables_scgi, METH_FASTCALL,
     "scgi(data, limit) -> (environ, offset of the body) or None"},
    {"uwsgi", (PyCFunction)(void (*)(void))variables_uwsgi, METH_FASTCALL,
     "uwsgi(data, limit) -> (environ, offset of the body) or None"},
    {"fastcgi", (PyCFunction)(void (*)(void))variables_fastcgi, METH_FASTCALL,
     "fastcgi(data, limit) -> (environ, request id, whether the connection is kept, bytes of its "
     "body's records; 0: it is complete, without a body) or None"},
    {NULL},
};

static PyTypeObject Variables_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "sdactivate.servers.native._accel.Variables",
    .tp_doc = "Reads plain requests of SCGI, uwsgi and FastCGI.",
    .tp_basicsize = sizeof(Variables),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = variables_init,
    .tp_dealloc = variables_dealloc,
    .tp_traverse = variables_traverse,
    .tp_clear = variables_clear,
    .tp_methods = variables_methods,
};

/* -- HTTP: a request's bytes -> environ --------------------------------------------------------- */

/* The kinds of fields for the server. */
enum { FIELD, FORWARDED, IGNORED, PARSERS /* left to the original */, FIELD_HOST, FIELD_LENGTH, CONNECTION };

typedef struct {
    PyObject_HEAD
    PyObject *hosts; /* the hosts that were checked */
    PyObject *base;  /* the initial content of the patterns' environs */
    Names names;
    Patterns patterns;
} Fields;

/* A request that is being read. */
typedef struct {
    PyObject *environ;
    PyObject *forwarded; /* what a front says of its client; NULL: nothing */
    PyObject *host; /* borrowed from the environ */
    Py_ssize_t length; /* of the body */
    Py_ssize_t came;   /* of it */
    int has_host, has_length, has_connection, closes;
} Message;

static const struct {
    const char *name;
    unsigned char size;
} METHODS[] = {
    {"GET ", 4}, {"HEAD ", 5}, {"POST ", 5}, {"PUT ", 4}, {"PATCH ", 6}, {"DELETE ", 7}, {"OPTIONS ", 8},
};
#define METHOD_COUNT (sizeof METHODS / sizeof METHODS[0])

static PyObject *method_names[METHOD_COUNT];

/* What a byte may be part of. */
enum { IN_TARGET = 1, IN_NAME = 2, IN_VALUE = 4 };
static unsigned char classes[256];

static void
make_classes(void)
{
    for (int c = 0x20; c < 0x7f; c++) {
        int is_alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        classes[c] = (unsigned char)(IN_VALUE | (c > 0x20 && c != '#' ? IN_TARGET : 0)
                                     | (is_alnum || c == '-' ? IN_NAME : 0));
    }
    classes['\t'] = IN_VALUE;
}

/* Whether 8 bytes are all in 0x20-0x7e: then the highest bit is clear in each byte, in the byte plus
   1, and in the byte minus 0x20. */
static int
all_printable(const char *at)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t word;
    memcpy(&word, at, 8);
    return !((word | (word + ones) | (word - 0x20 * ones)) & 0x80 * ones);
}

/* Take the bytes of a class from the beginning of `rest`. */
static Slice
run_of(Slice *rest, int class)
{
    const char *at = rest->at, *end = at + rest->size;
    if (class == IN_VALUE)
        while (end - at >= 8 && all_printable(at))
            at += 8;
    while (at < end && classes[(unsigned char)*at] & class)
        at++;
    Slice found = {rest->at, at - rest->at};
    *rest = (Slice){at, end - at};
    return found;
}

/* Take `text` from the beginning of `rest`; return whether it was there. */
static int
take_text(Slice *rest, const char *text, Py_ssize_t size)
{
    if (rest->size < size || memcmp(rest->at, text, (size_t)size) != 0)
        return 0;
    *rest = (Slice){rest->at + size, rest->size - size};
    return 1;
}

static int
hex_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The text of a path, percent-decoded. */
static PyObject *
unquoted(Slice path)
{
    if (memchr(path.at, '%', (size_t)path.size) == NULL)
        return text_of(path);
    char *buffer = PyMem_Malloc((size_t)path.size);
    if (buffer == NULL)
        return PyErr_NoMemory();
    Py_ssize_t size = 0;
    for (Py_ssize_t i = 0; i < path.size; i++) {
        char c = path.at[i];
        if (c == '%' && path.size - i > 2) {
            int high = hex_of(path.at[i + 1]), low = hex_of(path.at[i + 2]);
            if (high >= 0 && low >= 0) {
                c = (char)(high << 4 | low);
                i += 2;
            }
        }
        buffer[size++] = c;
    }
    PyObject *text = text_of((Slice){buffer, size});
    PyMem_Free(buffer);
    return text;
}

/* Put a value into a dictionary, and release the reference; NULL: creating the value has failed. */
static Verdict
put(PyObject *dict, PyObject *key, PyObject *value)
{
    int failed = value == NULL || PyDict_SetItem(dict, key, value);
    Py_XDECREF(value);
    return failed ? FAILED : PLAIN;
}

static Verdict
take_request_line(Message *message, Slice *rest, Py_ssize_t limit)
{
    size_t method = 0;
    while (!take_text(rest, METHODS[method].name, METHODS[method].size))
        if (++method == METHOD_COUNT)
            return UNUSUAL;
    Slice target = run_of(rest, IN_TARGET);
    if (!target.size || target.at[0] != '/' || target.size > limit)
        return UNUSUAL;
    if (!take_text(rest, " HTTP/1.1\r\n", 11))
        return UNUSUAL;
    const char *mark = memchr(target.at, '?', (size_t)target.size);
    Slice path = {target.at, mark == NULL ? target.size : mark - target.at};
    Slice query = {mark == NULL ? target.at : mark + 1, mark == NULL ? 0 : target.size - path.size - 1};
    PyObject *environ = message->environ;
    if (PyDict_SetItem(environ, key_method, method_names[method])
        || PyDict_SetItem(environ, key_protocol, value_http11))
        return FAILED;
    Verdict verdict = put(environ, key_uri, text_of(target));
    if (verdict == PLAIN)
        verdict = put(environ, key_path, unquoted(path));
    return verdict == PLAIN ? put(environ, key_query, text_of(query)) : verdict;
}

/* Take the value of a field that the server itself interprets; return whether it is plain. */
static int
obey(Message *message, int kind, Slice value)
{
    switch (kind) {
    case FIELD_HOST:
        return message->has_host++ == 0;
    case FIELD_LENGTH:
        if (message->has_length++ || !is_number(value, MOST_DIGITS)
            || (value.size > 1 && *value.at == '0'))
            return 0;
        message->length = number_of(value);
        return 1;
    case CONNECTION:
        message->closes = is_same(value, "close");
        return message->has_connection++ == 0 && (message->closes || is_same(value, "keep-alive"));
    default:
        return kind != PARSERS;
    }
}

static Slice
stripped(Slice value)
{
    while (value.size && (*value.at == ' ' || *value.at == '\t'))
        value = (Slice){value.at + 1, value.size - 1};
    while (value.size && (value.at[value.size - 1] == ' ' || value.at[value.size - 1] == '\t'))
        value.size--;
    return value;
}

/* Split a header into fields, up to its empty line, and take it from `rest`; return their number, or
   -1 if they are too many or not plain. */
static Py_ssize_t
split_header(Slice *rest, Pair *pairs)
{
    Py_ssize_t count = 0;
    for (; !take_text(rest, "\r\n", 2); count++) {
        if (count == MOST_NAMES)
            return -1;
        Slice name = run_of(rest, IN_NAME);
        if (!is_nameable(name) || !take_text(rest, ":", 1))
            return -1;
        pairs[count] = (Pair){name, stripped(run_of(rest, IN_VALUE))};
        if (!take_text(rest, "\r\n", 2))
            return -1;
    }
    return count;
}

/* Read fields one by one, and fill the slots. */
static Verdict
read_fields(Fields *self, Message *message, PyObject *base, const Pair *pairs, Py_ssize_t count,
            Slot *slots)
{
    Py_ssize_t added = 0, told = 0;
    message->environ = PyDict_Copy(base);
    if (message->environ == NULL)
        return FAILED;
    for (Py_ssize_t i = 0; i < count; i++) {
        Name *known = look_up(&self->names, pairs[i].name);
        if (known == NULL)
            return FAILED;
        slots[i] = (Slot){known, NULL};
        int kind = known->kind;
        if (!obey(message, kind, pairs[i].value))
            return UNUSUAL;
        if (kind == IGNORED)
            continue;
        if (known->key == NULL)
            return UNUSUAL;
        if (kind == FORWARDED && message->forwarded == NULL) {
            if ((message->forwarded = PyDict_New()) == NULL)
                return FAILED;
            i--; /* other threads may have run: look the name up again */
            continue;
        }
        PyObject *into = kind == FORWARDED ? message->forwarded : message->environ;
        *(kind == FORWARDED ? &told : &added) += 1;
        PyObject *key = known->key, *text = value_of(known, pairs[i].value);
        if (put(into, key, text) == FAILED)
            return FAILED;
        slots[i].text = text;
        if (kind == FIELD_HOST)
            message->host = text;
    }
    int is_once = PyDict_Size(message->environ) == PyDict_Size(base) + added
                  && (message->forwarded == NULL || PyDict_Size(message->forwarded) == told);
    return is_once ? PLAIN : UNUSUAL;
}

/* Put what a front says about its client now into the pattern, in a new dictionary: the former one
   may still be in use. */
static Verdict
refresh_forwarded(Patterns *patterns, Pattern *pattern, const Pair *pairs)
{
    PyObject *texts[MOST_NAMES], *old = pattern->forwarded;
    unsigned turn = ++patterns->turn;
    PyObject *forwarded = PyDict_New();
    if (forwarded == NULL || patterns->turn != turn) { /* other threads have run */
        Py_XDECREF(forwarded);
        return forwarded == NULL ? FAILED : UNUSUAL;
    }
    for (Py_ssize_t i = 0; i < pattern->count; i++) {
        Name *known = pattern->slots[i].known;
        if (known->kind != FORWARDED)
            continue;
        texts[i] = value_of(known, pairs[i].value);
        if (put(forwarded, known->key, texts[i]) == FAILED) {
            Py_DECREF(forwarded);
            return FAILED;
        }
    }
    for (Py_ssize_t i = 0; i < pattern->count; i++)
        if (pattern->slots[i].known->kind == FORWARDED)
            pattern->slots[i].text = texts[i];
    pattern->forwarded = forwarded;
    Py_XDECREF(old);
    return PLAIN;
}

/* The same with a pattern. */
static Verdict
refresh_fields(Fields *self, Message *message, const Pair *pairs, Pattern *pattern)
{
    int is_told_anew = 0;
    self->patterns.turn++; /* in any case: the slots now have other values */
    for (Py_ssize_t i = 0; i < pattern->count; i++) {
        Slot *slot = pattern->slots + i;
        int kind = slot->known->kind;
        if (!obey(message, kind, pairs[i].value))
            return UNUSUAL;
        if (kind == FORWARDED)
            is_told_anew |= !is_text(slot->text, pairs[i].value);
        else if (kind != IGNORED && refresh(pattern, slot, pairs[i].value) == FAILED)
            return FAILED;
        if (kind == FIELD_HOST)
            message->host = slot->text;
    }
    Verdict verdict = is_told_anew ? refresh_forwarded(&self->patterns, pattern, pairs) : PLAIN;
    if (verdict != PLAIN)
        return verdict;
    Py_XINCREF(pattern->forwarded);
    message->forwarded = pattern->forwarded;
    message->environ = copy_of(&self->patterns, pattern);
    return message->environ != NULL ? PLAIN : PyErr_Occurred() ? FAILED : UNUSUAL;
}

static void
release_message(Message *message)
{
    Py_CLEAR(message->environ);
    Py_CLEAR(message->forwarded);
}

/* Read fields, with a pattern if there is one. */
static Verdict
take_fields(Fields *self, Message *message, PyObject *base, const Pair *pairs, Py_ssize_t count)
{
    if (self->base != base) {
        PyObject *old = self->base;
        self->base = (Py_INCREF(base), base);
        clear_patterns(&self->patterns);
        Py_XDECREF(old);
        if (self->base != base) /* releasing it may run Python code */
            return UNUSUAL;
    }
    Pattern *pattern = pattern_of(&self->patterns, &self->names, pairs, count);
    if (pattern != NULL) {
        Verdict verdict = refresh_fields(self, message, pairs, pattern);
        if (verdict != UNUSUAL)
            return verdict;
        release_message(message);
        *message = (Message){0};
    }
    unsigned learned = self->names.learned;
    Slot slots[MOST_NAMES];
    Verdict verdict = read_fields(self, message, base, pairs, count, slots);
    if (verdict == PLAIN && self->base == base
        && remember(&self->patterns, &self->names, learned, message->environ, message->forwarded,
                    slots, count))
        return FAILED;
    return verdict;
}

/* The limits of a request: header bytes, header fields, request line bytes. */
typedef struct {
    Py_ssize_t header, count, line;
} Limits;

/* Read a request whose environ begins as `base`. The message owns the objects, whatever the verdict:
   `release_message` frees them. The end of `data` is the body, or the part of it that has arrived. */
static Verdict
read_message(Fields *self, Message *message, Slice data, PyObject *base, Limits limits)
{
    Pair pairs[MOST_NAMES];
    *message = (Message){0};
    const char *fields = data.size ? memchr(data.at, '\n', (size_t)data.size) : NULL;
    if (fields == NULL)
        return UNUSUAL;
    Slice line = {data.at, fields + 1 - data.at}, rest = {fields + 1, data.size - line.size};
    Py_ssize_t count = split_header(&rest, pairs);
    if (count < 0 || count > limits.count || data.size - rest.size > limits.header)
        return UNUSUAL;
    Verdict verdict = take_fields(self, message, base, pairs, count);
    message->came = rest.size;
    if (verdict == PLAIN && (message->host == NULL || message->came > message->length))
        verdict = UNUSUAL;
    if (verdict == PLAIN)
        verdict = is_among(self->hosts, message->host);
    return verdict == PLAIN ? take_request_line(message, &line, limits.line) : verdict;
}

/* A message for Python: as `Fields.read` returns it. */
static PyObject *
told_of(const Message *message, Slice data)
{
    return Py_BuildValue("OOOnn", message->environ,
                         message->forwarded == NULL ? Py_None : message->forwarded,
                         message->closes ? Py_False : Py_True, message->length,
                         data.size - message->came);
}

static PyObject *
fields_read(PyObject *object, PyObject *args)
{
    PyObject *bytes, *base;
    Limits limits;
    if (!PyArg_ParseTuple(args, "OO!nnn:read", &bytes, &PyDict_Type, &base, &limits.header,
                          &limits.count, &limits.line))
        return NULL;
    if (!PyBytes_CheckExact(bytes))
        Py_RETURN_NONE;
    Slice data = {PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes)};
    Message message;
    PyObject *result = NULL;
    Verdict verdict = read_message((Fields *)object, &message, data, base, limits);
    if (verdict == PLAIN)
        result = told_of(&message, data);
    else if (verdict == UNUSUAL)
        result = (Py_INCREF(Py_None), Py_None);
    release_message(&message);
    return result;
}

static int
fields_init(PyObject *object, PyObject *args, PyObject *keywords)
{
    Fields *self = (Fields *)object;
    PyObject *hosts, *meaning;
    if (!PyArg_ParseTuple(args, "OO:Fields", &hosts, &meaning))
        return -1;
    if (self->hosts != NULL || !PyAnySet_Check(hosts)) {
        PyErr_SetString(PyExc_TypeError, "a Fields object can't be initialized twice, and needs a set of hosts");
        return -1;
    }
    self->hosts = (Py_INCREF(hosts), hosts);
    self->names.meaning = (Py_INCREF(meaning), meaning);
    return 0;
}

static int
fields_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(((Fields *)object)->hosts);
    Py_VISIT(((Fields *)object)->base);
    if (visit_patterns(&((Fields *)object)->patterns, visit, arg))
        return 1;
    return visit_names(&((Fields *)object)->names, visit, arg);
}

static int
fields_clear(PyObject *object)
{
    Py_CLEAR(((Fields *)object)->hosts);
    Py_CLEAR(((Fields *)object)->base);
    clear_patterns(&((Fields *)object)->patterns);
    clear_names(&((Fields *)object)->names);
    return 0;
}

static void
fields_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    fields_clear(object);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef fields_methods[] = {
    {"read", fields_read, METH_VARARGS,
     "read(data, base, header_bytes, header_count, request_line) -> (environ, forwarded or None, "
     "keep_alive, length of the body, its offset; not all of it need have come) or None"},
    {NULL},
};

static PyTypeObject Fields_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "sdactivate.servers.native._accel.Fields",
    .tp_doc = "Reads plain requests of HTTP/1.1.",
    .tp_basicsize = sizeof(Fields),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = fields_init,
    .tp_dealloc = fields_dealloc,
    .tp_traverse = fields_traverse,
    .tp_clear = fields_clear,
    .tp_methods = fields_methods,
};

/* -- Responses: one call of the application ----------------------------------------------------- */

/* A Responder creates an Exchange for each request, which replaces the original's Response: it is
   run, and it is the start_response that the application calls. As soon as something is unusual, it
   creates a Response in the corresponding state, which takes over: `run` of the Response gets the
   Outcome in place of the application, which returns or raises what the application has returned or
   raised. */

enum { HEADER, HEADER_LENGTH, HOP_BY_HOP, HEADER_CONNECTION, DATE, SERVER_NAME };
enum { CLOSE, KEEP, SETTLE }; /* what follows a response */

#define LONGEST_BODY 16384 /* a longer body is not copied behind its head */

typedef struct {
    PyObject_HEAD
    PyObject *response; /* the type of the original */
    PyObject *statuses; /* statuses seen before -> whether they have no body */
    PyObject *fields;   /* () -> bytes: the current Server and Date fields for HTTP */
    PyObject *forks;    /* module whose `happened` says whether this process has forked */
    PyObject *gone;     /* exception: the peer accepts no more */
    PyObject *fresh;    /* what `fields` returned at the time `second` */
    time_t second;
    Names names;
} Responder;

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    Responder *responder;
    PyObject *connection, *environ, *loop;
    PyObject *method, *mount, *path, *client; /* of the request, for the log */
    PyObject *response;                       /* the original, once it has taken over */
    PyObject *status;                         /* NULL: start_response has not been called */
    char *fields;                             /* the lines of the application's headers */
    Py_ssize_t size, room;
    Py_ssize_t length; /* the value of Content-Length, -1: none */
    Py_ssize_t sent;   /* bytes of body */
    int special;       /* a bit for each kind of header that was set */
    int dialect, after;
    int is_over;     /* all of it has been sent here, and what follows it is done */
    unsigned number; /* of a FastCGI request */
} Exchange;

static PyTypeObject Exchange_Type, Outcome_Type;

static PyObject *name_run, *name_close, *name_close_failed, *name_join, *name_streaming;
static PyObject *name_fd, *name_done, *name_lock, *name_wait, *name_served, *name_since, *name_deadline;
static PyObject *name_application, *name_count_failure, *name_end_turn, *name_recent, *name_respond;
static PyObject *name_response, *name_takes_turns, *name_unobserved;
static PyObject *name_acquire, *name_release, *name_again, *name_advance, *name_resting;
static PyObject *name_half_closed, *name_own, *name_trusted, *name_early_hints;
static PyObject *name_finish, *name_keep_rest, *name_output, *name_parser, *name_draining, *name_happened, *name_request;
static PyObject *name_answered, *name_failed, *name_is_error, *name_say_error, *name_where;
static PyObject *name_record, *name_write;
static PyObject *name_start_response, *no_bytes, *minus_one;

/* What the application has returned or raised; calling it returns or raises that again, once. */
typedef struct {
    PyObject_HEAD
    PyObject *result;
    PyObject *type, *error, *traceback;
} Outcome;

static PyObject *
outcome_call(PyObject *object, PyObject *args, PyObject *keywords)
{
    Outcome *self = (Outcome *)object;
    PyObject *result = self->result;
    self->result = NULL;
    if (result == NULL && self->type == NULL)
        PyErr_SetString(PyExc_RuntimeError, "an Outcome can be called only once");
    else if (result == NULL) {
        PyErr_Restore(self->type, self->error, self->traceback);
        self->type = self->error = self->traceback = NULL;
    }
    return result;
}

static void
outcome_dealloc(PyObject *object)
{
    Outcome *self = (Outcome *)object;
    Py_XDECREF(self->result);
    Py_XDECREF(self->type);
    Py_XDECREF(self->error);
    Py_XDECREF(self->traceback);
    PyObject_Free(object);
}

static PyTypeObject Outcome_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "sdactivate.servers.native._accel.Outcome",
    .tp_doc = "What an application has returned or raised.",
    .tp_basicsize = sizeof(Outcome),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = outcome_dealloc,
    .tp_call = outcome_call,
};

/* The original of an exchange, in the exchange's state: a new reference. */
static PyObject *
original(Exchange *self)
{
    if (self->response != NULL)
        return Py_INCREF(self->response), self->response;
    PyObject *asked = PyDict_New(), *response = NULL;
    if (asked == NULL || PyDict_SetItem(asked, key_method, self->method)
        || PyDict_SetItem(asked, key_mount, self->mount) || PyDict_SetItem(asked, key_path, self->path)
        || (self->client != NULL && PyDict_SetItem(asked, key_client, self->client)))
        goto done;
    response = PyObject_CallFunctionObjArgs(self->responder->response, self->connection, asked, NULL);
    if (response == NULL || self->status == NULL)
        goto done;
    PyObject *given = PyObject_CallMethod(response, "adopt", "Os#nin", self->status,
                                          self->fields == NULL ? "" : self->fields, self->size,
                                          self->length, self->special, self->sent);
    if (given == NULL)
        Py_CLEAR(response);
    Py_XDECREF(given);
done:
    Py_XDECREF(asked);
    return response;
}

/* Let the original take over; returns it, borrowed. */
static PyObject *
hand_over(Exchange *self)
{
    if (self->response == NULL)
        self->response = original(self);
    return self->response;
}

/* Let the original continue with what the application has returned (stolen), or, if that is NULL,
   with what it has raised. */
static PyObject *
hand_over_outcome(Exchange *self, PyObject *result)
{
    PyObject *type = NULL, *error = NULL, *traceback = NULL, *done = NULL;
    if (result == NULL)
        PyErr_Fetch(&type, &error, &traceback);
    Outcome *outcome = PyObject_New(Outcome, &Outcome_Type);
    if (outcome == NULL) {
        Py_XDECREF(result);
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
        return NULL;
    }
    *outcome = (Outcome){.ob_base = outcome->ob_base, .result = result, .type = type,
                         .error = error, .traceback = traceback};
    PyObject *response = hand_over(self);
    if (response != NULL)
        done = PyObject_CallMethodObjArgs(response, name_run, (PyObject *)outcome, NULL);
    Py_DECREF(outcome);
    return done;
}

/* start_response */

static int
reserve(Exchange *self, Py_ssize_t more)
{
    if (self->room - self->size >= more)
        return 1;
    Py_ssize_t room = self->room ? 2 * self->room + more : 448 + more;
    char *fields = PyMem_Realloc(self->fields, (size_t)room);
    if (fields == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    self->fields = fields;
    self->room = room;
    return 1;
}

static char *
append(char *to, const char *from, Py_ssize_t size)
{
    if (size)
        memcpy(to, from, (size_t)size);
    return to + size;
}

/* The characters of a str; return whether it is all printable ASCII. */
static int
printable(PyObject *text, Slice *found)
{
    if (!PyUnicode_CheckExact(text) || PyUnicode_MAX_CHAR_VALUE(text) > 127)
        return 0;
    *found = (Slice){(const char *)PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text)};
    for (Py_ssize_t i = 0; i < found->size; i++)
        if (!(classes[(unsigned char)found->at[i]] & IN_VALUE) || found->at[i] == '\t')
            return 0;
    return 1;
}

static Verdict
add_header(Exchange *self, PyObject *header)
{
    Slice name, value;
    if (!PyTuple_CheckExact(header) || PyTuple_GET_SIZE(header) != 2
        || !printable(PyTuple_GET_ITEM(header, 0), &name)
        || !printable(PyTuple_GET_ITEM(header, 1), &value) || !is_nameable(name))
        return UNUSUAL;
    Name *known = look_up(&self->responder->names, name);
    if (known == NULL) { /* not a token: the original reports it */
        if (!PyErr_ExceptionMatches(PyExc_ValueError))
            return FAILED;
        PyErr_Clear();
        return UNUSUAL;
    }
    int kind = known->kind;
    if (kind == HEADER_LENGTH) {
        if (self->length >= 0 || !is_number(value, MOST_DIGITS))
            return UNUSUAL;
        self->length = number_of(value);
    }
    else if (kind == HOP_BY_HOP || kind == HEADER_CONNECTION)
        return UNUSUAL;
    if (kind)
        self->special |= 1 << kind;
    if (!reserve(self, name.size + value.size + 4))
        return FAILED;
    char *to = self->fields + self->size;
    to = append(append(append(to, name.at, name.size), ": ", 2), value.at, value.size);
    append(to, "\r\n", 2);
    self->size += name.size + value.size + 4;
    return PLAIN;
}

static Verdict
add_headers(Exchange *self, PyObject *headers)
{
    if (!PyList_CheckExact(headers))
        return UNUSUAL;
    Verdict verdict = PLAIN;
    for (Py_ssize_t i = 0; verdict == PLAIN && i < PyList_GET_SIZE(headers); i++) {
        PyObject *header = PyList_GET_ITEM(headers, i);
        Py_INCREF(header); /* learning a name runs Python code */
        verdict = add_header(self, header);
        Py_DECREF(header);
    }
    return verdict;
}

static Verdict
take_status(Exchange *self, PyObject *status)
{
    if (!PyUnicode_CheckExact(status) || PyUnicode_GET_LENGTH(status) < 4
        || PyUnicode_MAX_CHAR_VALUE(status) > 127)
        return UNUSUAL;
    PyObject *bodiless = PyDict_GetItemWithError(self->responder->statuses, status);
    if (bodiless == NULL)
        return PyErr_Occurred() ? FAILED : UNUSUAL;
    return bodiless == Py_False ? PLAIN : UNUSUAL;
}

static PyObject *exchange_write(PyObject *object, PyObject *data);
static PyMethodDef write_method = {"write", exchange_write, METH_O, "PEP 3333's write()"};

static PyObject *
exchange_start(PyObject *object, PyObject *const *args, size_t nargsf, PyObject *names)
{
    Exchange *self = (Exchange *)object;
    Py_ssize_t count = PyVectorcall_NARGS(nargsf);
    Verdict verdict = UNUSUAL;
    if (self->response == NULL && self->status == NULL && names == NULL
        && (count == 2 || (count == 3 && args[2] == Py_None))) {
        self->size = 0;
        verdict = take_status(self, args[0]);
        if (verdict == PLAIN)
            verdict = add_headers(self, args[1]);
        if (verdict == PLAIN) {
            self->status = (Py_INCREF(args[0]), args[0]);
            return PyCFunction_New(&write_method, object);
        }
        self->size = self->special = 0;
        self->length = -1;
        if (verdict == FAILED)
            return NULL;
    }
    PyObject *response = hand_over(self);
    if (response == NULL)
        return NULL;
    PyObject *start = PyObject_GetAttr(response, name_start_response);
    if (start == NULL)
        return NULL;
    PyObject *result = PyObject_Vectorcall(start, args, (size_t)count, names);
    Py_DECREF(start);
    return result;
}

static PyObject *
exchange_write(PyObject *object, PyObject *data)
{
    PyObject *response = hand_over((Exchange *)object);
    return response == NULL ? NULL : PyObject_CallMethodObjArgs(response, name_write, data, NULL);
}

/* The head and the body */

static PyObject *
joined(PyObject *pieces)
{
    return PyObject_CallMethodObjArgs(no_bytes, name_join, pieces, NULL);
}

/* The whole body, if it is available: a new reference, NULL with an error, or NULL without one. */
static PyObject *
whole_body(PyObject *result)
{
    if (PyList_CheckExact(result) && PyList_GET_SIZE(result) == 1
        && PyBytes_CheckExact(PyList_GET_ITEM(result, 0))) {
        PyObject *body = PyList_GET_ITEM(result, 0);
        return Py_INCREF(body), body;
    }
    if (PyList_CheckExact(result) || PyTuple_CheckExact(result))
        return joined(result);
    PyObject *streaming = PyObject_GetAttr(result, name_streaming);
    if (streaming == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError))
            PyErr_Clear();
        return NULL;
    }
    Py_DECREF(streaming);
    return streaming == Py_False ? joined(result) : NULL;
}

/* Server and Date, built once a second; borrowed. */
static PyObject *
fresh_fields(Responder *responder)
{
    time_t now = time(NULL);
    if (responder->fresh == NULL || now != responder->second) {
        PyObject *fresh = PyObject_CallNoArgs(responder->fields), *old = responder->fresh;
        if (fresh == NULL)
            return NULL;
        if (!PyBytes_CheckExact(fresh)) {
            Py_DECREF(fresh);
            PyErr_SetString(PyExc_TypeError, "fields() must return bytes");
            return NULL;
        }
        responder->fresh = fresh;
        responder->second = now;
        Py_XDECREF(old);
    }
    return responder->fresh;
}

static char *
append_record(char *to, unsigned type, unsigned number, Py_ssize_t length)
{
    const char head[8] = {1,
                          (char)type,
                          (char)(number >> 8),
                          (char)number,
                          (char)(length >> 8),
                          (char)length,
                          0,
                          0};
    return append(to, head, 8);
}

#define LONGEST_RECORD 65528
#define END_OF_RESPONSE 24 /* an empty record, and END_REQUEST with 8 bytes of content */

/* The bytes of a response with the protocol's framing. */
static PyObject *
framed(Exchange *self, PyObject *body)
{
    int is_fastcgi = self->dialect == FASTCGI, is_http = self->dialect == HTTP;
    Slice start = is_http || self->dialect == UWSGI ? (Slice){"HTTP/1.1 ", 9} : (Slice){"Status: ", 8};
    Slice tail = {"", 0}, end = {"", 0};
    if (is_http) {
        PyObject *fresh = fresh_fields(self->responder);
        if (fresh == NULL)
            return NULL;
        tail = (Slice){PyBytes_AS_STRING(fresh), PyBytes_GET_SIZE(fresh)};
        if (self->after != KEEP)
            end = (Slice){"Connection: close\r\n", 19};
    }
    char counted[48];
    Py_ssize_t size = PyBytes_GET_SIZE(body), status = PyUnicode_GET_LENGTH(self->status), told = 0;
    if (self->length < 0)
        told = PyOS_snprintf(counted, sizeof counted, "Content-Length: %zd\r\n", size);
    Py_ssize_t content = start.size + status + 2 + self->size + told + tail.size + end.size + 2 + size;
    if (is_fastcgi && content > LONGEST_RECORD)
        Py_RETURN_NONE;
    PyObject *bytes =
        PyBytes_FromStringAndSize(NULL, content + (is_fastcgi ? 8 + END_OF_RESPONSE : 0));
    if (bytes == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(bytes);
    if (is_fastcgi)
        to = append_record(to, 6, self->number, content);
    to = append(to, start.at, start.size);
    to = append(to, (const char *)PyUnicode_1BYTE_DATA(self->status), status);
    to = append(to, "\r\n", 2);
    to = append(to, self->fields, self->size);
    to = append(to, counted, told);
    to = append(to, tail.at, tail.size);
    to = append(to, end.at, end.size);
    to = append(to, "\r\n", 2);
    to = append(to, PyBytes_AS_STRING(body), size);
    if (is_fastcgi) {
        to = append_record(to, 6, self->number, 0);
        to = append_record(to, 3, self->number, 8);
        memset(to, 0, 8);
    }
    return bytes;
}

/* The end: send the bytes, and do what follows */

static int
is_true(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL)
        return -1;
    int found = PyObject_IsTrue(value);
    Py_DECREF(value);
    return found;
}

static int
call(PyObject *object, PyObject *name)
{
    PyObject *result = PyObject_CallMethodObjArgs(object, name, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
is_none(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL)
        return -1;
    Py_DECREF(value);
    return value == Py_None;
}

/* Close the connection: here, if the loop does not watch it and no other process can have it. */
static int
close_now(Exchange *self, int fd)
{
    int is_unknown = is_none(self->connection, name_lock);
    int has_forked = is_true(self->responder->forks, name_happened);
    if (is_unknown < 0 || has_forked < 0)
        return -1;
    if (!is_unknown || has_forked)
        return call(self->connection, name_close);
    if (PyObject_SetAttr(self->connection, name_fd, minus_one))
        return -1;
    close(fd);
    return 0;
}

/* The peer has accepted only `sent` bytes of `bytes`: the connection keeps the rest. */
static int
keep_rest(Exchange *self, PyObject *bytes, Py_ssize_t sent)
{
    PyObject *number = PyLong_FromSsize_t(sent);
    if (number == NULL)
        return -1;
    PyObject *result = PyObject_CallMethodObjArgs(self->connection, name_keep_rest, bytes, number,
                                                  NULL);
    Py_DECREF(number);
    if (result == NULL && PyErr_ExceptionMatches(self->responder->gone))
        PyErr_Clear();
    else if (result == NULL)
        return -1;
    Py_XDECREF(result);
    return 0;
}

/* Tell the parser, which keeps track of requests, that this one is answered. */
static int
mark_answered(Exchange *self)
{
    PyObject *request = PyObject_GetAttr(self->connection, name_request), *done = NULL;
    PyObject *parser = request == NULL ? NULL : PyObject_GetAttr(self->connection, name_parser);
    if (parser != NULL)
        done = PyObject_CallMethodObjArgs(parser, name_answered, request, NULL);
    Py_XDECREF(request);
    Py_XDECREF(parser);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* The descriptor of a connection; -1: it is closed, or an error is set. */
static int
descriptor_of(PyObject *connection)
{
    PyObject *number = PyObject_GetAttr(connection, name_fd);
    if (number == NULL)
        return -1;
    int fd = (int)PyLong_AsLong(number);
    Py_DECREF(number);
    return fd;
}

static int
deliver(Exchange *self, PyObject *bytes)
{
    int fd = descriptor_of(self->connection);
    if (fd == -1 && PyErr_Occurred())
        return -1;
    if (self->dialect == FASTCGI && mark_answered(self))
        return -1;
    Py_ssize_t size = PyBytes_GET_SIZE(bytes);
    Py_ssize_t sent = send(fd, PyBytes_AS_STRING(bytes), (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        return 0; /* the peer is gone: nothing is left to do */
    if (sent != size)
        return keep_rest(self, bytes, sent < 0 ? 0 : sent);
    if (self->after == SETTLE)
        return call(self->connection, name_finish);
    if (PyObject_SetAttr(self->connection, name_done, Py_True))
        return -1;
    if (self->after == CLOSE && close_now(self, fd))
        return -1;
    self->is_over = 1;
    return 0;
}

/* run */

static Verdict
can_answer(Exchange *self)
{
    if (self->status == NULL || PyUnicode_CompareWithASCIIString(self->method, "HEAD") == 0)
        return UNUSUAL;
    if (self->dialect == HTTP && self->special & (1 << DATE | 1 << SERVER_NAME))
        return UNUSUAL;
    int is_first = is_none(self->connection, name_output);
    if (is_first != 1) /* other output must be sent first */
        return is_first < 0 ? FAILED : UNUSUAL;
    if (self->dialect == HTTP || self->dialect == FASTCGI) {
        int draining = is_true(self->loop, name_draining);
        return draining < 0 ? FAILED : draining ? UNUSUAL : PLAIN;
    }
    return PLAIN;
}

/* Send an available body (borrowed); UNUSUAL: nothing was sent. */
static Verdict
send_whole(Exchange *self, PyObject *body)
{
    Py_ssize_t size = PyBytes_GET_SIZE(body);
    if (self->response != NULL) /* start_response or write() was called while the body was joined */
        return UNUSUAL;
    if (size >= LONGEST_BODY || (self->length >= 0 && self->length != size))
        return UNUSUAL;
    PyObject *bytes = framed(self, body);
    if (bytes == NULL)
        return FAILED;
    Verdict verdict = UNUSUAL;
    if (bytes != Py_None) {
        self->sent = size;
        verdict = deliver(self, bytes) ? FAILED : PLAIN;
    }
    Py_DECREF(bytes);
    return verdict;
}

/* Call the result's close(), if it has one. */
static int
close_result(PyObject *result)
{
    if (PyList_CheckExact(result) || PyTuple_CheckExact(result))
        return 0;
    PyObject *method = PyObject_GetAttr(result, name_close);
    if (method == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return -1;
        PyErr_Clear();
        return 0;
    }
    PyObject *closed = method == Py_None ? (Py_INCREF(method), method) : PyObject_CallNoArgs(method);
    Py_DECREF(method);
    Py_XDECREF(closed);
    return closed == NULL ? -1 : 0;
}

/* The application's close() has raised: the original logs it. */
static int
tell_of_close(Exchange *self)
{
    PyObject *type, *error, *traceback, *told = NULL;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(error, traceback);
    PyObject *response = original(self);
    if (response != NULL)
        told = PyObject_CallMethodObjArgs(response, name_close_failed, error, NULL);
    Py_XDECREF(response);
    Py_XDECREF(told);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return told == NULL ? -1 : 0;
}

/* Answer with what the application has returned (stolen), whose body is available. */
static PyObject *
answer_with(Exchange *self, PyObject *result, PyObject *body)
{
    PyObject *done = NULL;
    Verdict verdict = body == NULL ? FAILED : send_whole(self, body);
    if (verdict == PLAIN)
        done = (Py_INCREF(Py_None), Py_None);
    else if (verdict == UNUSUAL) {
        PyObject *list = Py_BuildValue("[O]", body);
        done = hand_over_outcome(self, list); /* or the error of creating it */
    }
    else if (self->sent < 0) /* nothing was sent: it is answered like an application's error */
        done = hand_over_outcome(self, NULL);
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    int failed = close_result(result) && tell_of_close(self);
    Py_DECREF(result);
    if (done == NULL || !failed) {
        if (failed)
            PyErr_Clear();
        PyErr_Restore(type, error, traceback);
        return done;
    }
    Py_DECREF(done);
    return NULL;
}

static PyObject *
exchange_run(PyObject *object, PyObject *application)
{
    Exchange *self = (Exchange *)object;
    PyObject *environ = self->environ;
    if (environ == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "an Exchange can be run only once");
        return NULL;
    }
    self->environ = NULL; /* it belongs to the application */
    PyObject *args[] = {environ, object};
    PyObject *result = PyObject_Vectorcall(application, args, 2, NULL);
    Py_DECREF(environ);
    if (result == NULL || self->response != NULL)
        return hand_over_outcome(self, result);
    Verdict verdict = can_answer(self);
    if (verdict == UNUSUAL)
        return hand_over_outcome(self, result);
    PyObject *body = verdict == PLAIN ? whole_body(result) : NULL;
    if (body == NULL && !PyErr_Occurred())
        return hand_over_outcome(self, result);
    PyObject *done = answer_with(self, result, body);
    Py_XDECREF(body);
    return done;
}

/* The other methods that the server needs of an exchange */

static PyObject *
exchange_where(PyObject *object, PyObject *ignored)
{
    PyObject *response = original((Exchange *)object);
    if (response == NULL)
        return NULL;
    PyObject *where = PyObject_CallMethodObjArgs(response, name_where, NULL);
    Py_DECREF(response);
    return where;
}

static PyObject *
exchange_record(PyObject *object, PyObject *milliseconds)
{
    PyObject *response = original((Exchange *)object), *recorded;
    if (response == NULL)
        return NULL;
    recorded = PyObject_CallMethodObjArgs(response, name_record, milliseconds, NULL);
    Py_DECREF(response);
    return recorded;
}

/* Attributes of the original, if there is one: a plain response has neither failed nor status 5xx. */
static PyObject *
exchange_flag(PyObject *object, void *name)
{
    PyObject *response = ((Exchange *)object)->response;
    if (response == NULL)
        Py_RETURN_FALSE;
    return PyObject_GetAttr(response, *(PyObject **)name);
}

static PyObject *
exchange_say_error(PyObject *object, PyObject *began)
{
    PyObject *response = original((Exchange *)object), *said;
    if (response == NULL)
        return NULL;
    said = PyObject_CallMethodObjArgs(response, name_say_error, began, NULL);
    Py_DECREF(response);
    return said;
}

static PyObject *
exchange_connection(PyObject *object, void *ignored)
{
    PyObject *connection = ((Exchange *)object)->connection;
    return Py_INCREF(connection), connection;
}

static void
exchange_dealloc(PyObject *object)
{
    Exchange *self = (Exchange *)object;
    PyObject *held[] = {(PyObject *)self->responder, self->connection, self->environ, self->loop,
                        self->method, self->mount, self->path, self->client, self->response,
                        self->status};
    for (size_t i = 0; i < sizeof held / sizeof held[0]; i++)
        Py_XDECREF(held[i]);
    PyMem_Free(self->fields);
    PyObject_Free(object);
}

static PyMethodDef exchange_methods[] = {
    {"run", exchange_run, METH_O, "run(application): call it and send its response"},
    {"where", exchange_where, METH_NOARGS, "where() -> the request and its peer, for the log"},
    {"say_error", exchange_say_error, METH_O, "say_error(began): log a status of 5xx"},
    {"record", exchange_record, METH_O, "record(milliseconds): write the entry in the access log"},
    {NULL},
};

static PyGetSetDef exchange_attributes[] = {
    {"connection", exchange_connection, NULL, "the connection that carries it", NULL},
    {"failed", exchange_flag, NULL, "whether the application has failed", &name_failed},
    {"is_error", exchange_flag, NULL, "whether its status is 5xx", &name_is_error},
    {NULL},
};

static PyTypeObject Exchange_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "sdactivate.servers.native._accel.Exchange",
    .tp_doc = "One call of the application and its response; also PEP 3333's start_response.",
    .tp_basicsize = sizeof(Exchange),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Exchange, call),
    .tp_call = PyVectorcall_Call,
    .tp_dealloc = exchange_dealloc,
    .tp_methods = exchange_methods,
    .tp_getset = exchange_attributes,
};

/* A value of an environ: a new reference, NULL with an error, or NULL without one. */
static PyObject *
value_in(PyObject *environ, PyObject *key)
{
    PyObject *value = PyDict_GetItemWithError(environ, key);
    Py_XINCREF(value);
    return value;
}

/* A new exchange, which steals the reference to the environ. */
static Exchange *
new_exchange(Responder *responder, PyObject *connection, PyObject *environ, PyObject *loop)
{
    Exchange *self = PyObject_New(Exchange, &Exchange_Type);
    if (self == NULL) {
        Py_DECREF(environ);
        return NULL;
    }
    *self = (Exchange){
        .ob_base = self->ob_base,
        .call = exchange_start,
        .responder = (Py_INCREF(responder), responder),
        .connection = (Py_INCREF(connection), connection),
        .environ = environ,
        .loop = (Py_INCREF(loop), loop),
        .length = -1,
        .sent = -1,
    };
    self->method = value_in(environ, key_method);
    self->mount = value_in(environ, key_mount);
    self->path = value_in(environ, key_path);
    self->client = value_in(environ, key_client);
    if (PyErr_Occurred() || !self->method || !self->mount || !self->path) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_KeyError, "REQUEST_METHOD, SCRIPT_NAME or PATH_INFO");
        Py_CLEAR(self);
    }
    return self;
}

static PyObject *
responder_exchange(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    if (count != 6 || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "exchange(connection, environ, loop, dialect, after, number)");
        return NULL;
    }
    long dialect = PyLong_AsLong(args[3]), after = PyLong_AsLong(args[4]);
    unsigned long number = PyLong_AsUnsignedLong(args[5]);
    if (PyErr_Occurred())
        return NULL;
    Py_INCREF(args[1]);
    Exchange *self = new_exchange((Responder *)object, args[0], args[1], args[2]);
    if (self != NULL) {
        self->dialect = (int)dialect;
        self->after = (int)after;
        self->number = (unsigned)number;
    }
    return (PyObject *)self;
}

static int
responder_init(PyObject *object, PyObject *args, PyObject *keywords)
{
    Responder *self = (Responder *)object;
    PyObject *response, *statuses, *fields, *forks, *gone, *meaning;
    if (!PyArg_ParseTuple(args, "OO!OOOO:Responder", &response, &PyDict_Type, &statuses, &fields,
                          &forks, &gone, &meaning))
        return -1;
    if (self->response != NULL) {
        PyErr_SetString(PyExc_TypeError, "a Responder can't be initialized twice");
        return -1;
    }
    self->response = (Py_INCREF(response), response);
    self->statuses = (Py_INCREF(statuses), statuses);
    self->fields = (Py_INCREF(fields), fields);
    self->forks = (Py_INCREF(forks), forks);
    self->gone = (Py_INCREF(gone), gone);
    self->names.meaning = (Py_INCREF(meaning), meaning);
    return 0;
}

static int
responder_traverse(PyObject *object, visitproc visit, void *arg)
{
    Responder *self = (Responder *)object;
    Py_VISIT(self->response);
    Py_VISIT(self->statuses);
    Py_VISIT(self->fields);
    Py_VISIT(self->forks);
    Py_VISIT(self->gone);
    return visit_names(&self->names, visit, arg);
}

static int
responder_clear(PyObject *object)
{
    Responder *self = (Responder *)object;
    Py_CLEAR(self->response);
    Py_CLEAR(self->statuses);
    Py_CLEAR(self->fields);
    Py_CLEAR(self->forks);
    Py_CLEAR(self->gone);
    Py_CLEAR(self->fresh);
    clear_names(&self->names);
    return 0;
}

static void
responder_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    responder_clear(object);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef responder_methods[] = {
    {"exchange", (PyCFunction)(void (*)(void))responder_exchange, METH_FASTCALL,
     "exchange(connection, environ, loop, dialect, after, number) -> Exchange"},
    {NULL},
};

static PyTypeObject Responder_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "sdactivate.servers.native._accel.Responder",
    .tp_doc = "Creates the exchanges of a server.",
    .tp_basicsize = sizeof(Responder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = responder_init,
    .tp_dealloc = responder_dealloc,
    .tp_traverse = responder_traverse,
    .tp_clear = responder_clear,
    .tp_methods = responder_methods,
};

/* -- Receiving ----------------------------------------------------------------------------------- */

#define CHUNK 65536

/* The bytes that have arrived on a descriptor, at most `size`: a new reference or an OSError. */
static PyObject *
received_by(int fd, Py_ssize_t size)
{
    static char buffer[CHUNK]; /* the global lock is held */
    Py_ssize_t came = recv(fd, buffer, (size_t)size, MSG_DONTWAIT);
    if (came < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyBytes_FromStringAndSize(buffer, came);
}

static PyObject *
receive(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "receive(fd, size)");
        return NULL;
    }
    int fd = (int)PyLong_AsLong(args[0]);
    Py_ssize_t size = PyLong_AsSsize_t(args[1]);
    if (PyErr_Occurred())
        return NULL;
    return received_by(fd, size < 0 || size > CHUNK ? CHUNK : size);
}

/* -- Requests: from the received bytes to the state of the connection after the answer ------------ */

/* A Handler processes a connection's request from its bytes to the end of its answer, instead of the
   chain of Python calls. It asks Python only for decisions: who the client is (`tell`), and
   everything that accompanies a call of the application (`respond`). What is not plain it leaves to
   Python: the bytes that it has read to the connection's own `received`, and an unfinished response
   to the connection's `served`. */

typedef struct {
    PyObject_HEAD
    Variables *variables;
    Fields *fields;
    Responder *cgi, *http;
    PyObject *server;    /* its `respond` runs an exchange, and does what accompanies that */
    PyObject *pool, *workers; /* the server's threads, and what each of them is doing */
    PyObject *loop;      /* says whether the server drains */
    PyObject *base;      /* the initial content of HTTP environs, without the connection's `own` */
    PyObject *buffer;    /* (bytes) -> the file that an application reads them from */
    PyObject *tell;      /* (fields, host) -> the variables for a front's fields */
    PyObject *mount;     /* (environ, SCRIPT_NAME): called if there is one among these */
    PyObject *malformed; /* exception: the fields are not valid */
    PyObject *kept, *last; /* a connection's `request` in the meantime, if it is kept, and if not */
    PyObject *timeout;     /* of a kept connection, in seconds */
    PyObject *fields_told, *host_told, *told; /* the last results */
    Limits limits;
    Py_ssize_t most; /* bytes of a body */
    int is_logged;   /* each request is logged */
    double seconds;  /* the value of timeout */
} Handler;

static double
monotonic(void)
{
    struct timespec clock;
    clock_gettime(CLOCK_MONOTONIC, &clock); /* as time.monotonic() */
    return (double)clock.tv_sec + (double)clock.tv_nsec * 1e-9;
}

static int
set_clock(PyObject *object, PyObject *name, double seconds)
{
    PyObject *number = PyFloat_FromDouble(seconds);
    int failed = number == NULL || PyObject_SetAttr(object, name, number);
    Py_XDECREF(number);
    return failed ? -1 : 0;
}

/* What this thread is doing, for others to see: a new reference. */
static PyObject *
this_worker(Handler *self)
{
    PyObject *ident = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
    PyObject *worker = ident == NULL ? NULL : PyDict_GetItemWithError(self->workers, ident);
    Py_XINCREF(worker);
    if (worker == NULL && !PyErr_Occurred())
        PyErr_SetObject(PyExc_KeyError, ident);
    Py_XDECREF(ident);
    return worker;
}

/* Record that the thread has served one more request, which has taken so many seconds. */
static int
count(PyObject *worker, double now, double seconds)
{
    PyObject *served = PyObject_GetAttr(worker, name_served), *recent = NULL, *took = NULL;
    Py_ssize_t number = served == NULL ? -1 : PyLong_AsSsize_t(served);
    int failed = number == -1 && PyErr_Occurred();
    Py_XDECREF(served);
    served = failed ? NULL : PyLong_FromSsize_t(number + 1);
    failed = served == NULL || PyObject_SetAttr(worker, name_served, served)
             || set_clock(worker, name_since, now)
             || (recent = PyObject_GetAttr(worker, name_recent)) == NULL
             || (took = PyFloat_FromDouble(seconds)) == NULL;
    if (!failed) {
        Py_ssize_t kept = PyList_Size(recent);
        failed = kept <= 0 || PyList_SetItem(recent, (number + 1) % kept, (Py_INCREF(took), took));
    }
    Py_XDECREF(served);
    Py_XDECREF(recent);
    Py_XDECREF(took);
    return failed ? -1 : 0;
}

/* Like Server.respond, if only this thread is involved. */
static int
respond_alone(Handler *self, Exchange *exchange)
{
    PyObject *worker = this_worker(self);
    PyObject *application = worker == NULL ? NULL : PyObject_GetAttr(self->server, name_application);
    double began = monotonic();
    if (application == NULL || set_clock(worker, name_since, began)
        || PyObject_SetAttr(worker, name_response, (PyObject *)exchange)) {
        Py_XDECREF(worker);
        Py_XDECREF(application);
        return -1;
    }
    PyObject *done = exchange_run((PyObject *)exchange, application);
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    double now = monotonic();
    int failed = PyObject_SetAttr(worker, name_response, Py_None);
    int takes_turns = is_true(self->pool, name_takes_turns);
    if (takes_turns > 0) { /* even if something else fails: others wait for it */
        PyObject *ended = PyObject_CallMethodObjArgs(self->pool, name_end_turn, worker, NULL);
        failed |= ended == NULL;
        Py_XDECREF(ended);
    }
    failed = failed || takes_turns < 0 || count(worker, now, now - began);
    if (!failed && exchange->response != NULL) {
        PyObject *since = PyFloat_FromDouble(began);
        PyObject *seen = since == NULL ? NULL
                                       : PyObject_CallMethodObjArgs(self->server, name_count_failure,
                                                                    (PyObject *)exchange, since, NULL);
        failed = seen == NULL;
        Py_XDECREF(since);
        Py_XDECREF(seen);
    }
    Py_DECREF(worker);
    Py_DECREF(application);
    if (done == NULL || !failed) {
        PyErr_Clear();
        PyErr_Restore(type, error, traceback);
    }
    Py_XDECREF(done);
    return done == NULL || failed ? -1 : 0;
}

/* Have the server answer, with its `respond` if Python must decide anything. */
static int
respond(Handler *self, Exchange *exchange)
{
    int is_asked = self->is_logged ? 1 : is_true(self->server, name_unobserved);
    if (is_asked == 0)
        is_asked = is_true(self->pool, name_takes_turns);
    if (is_asked <= 0)
        return is_asked < 0 ? -1 : respond_alone(self, exchange);
    PyObject *done = PyObject_CallMethodObjArgs(self->server, name_respond, (PyObject *)exchange,
                                                NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Have the server answer a request that has been read completely; steals the environ. */
static int
answer(Handler *self, PyObject *connection, PyObject *environ, int dialect, int after)
{
    Responder *responder = dialect == HTTP ? self->http : self->cgi;
    Exchange *exchange = new_exchange(responder, connection, environ, self->loop);
    if (exchange == NULL)
        return -1;
    exchange->dialect = dialect;
    exchange->after = after;
    int failed = respond(self, exchange), is_over = exchange->is_over;
    Py_DECREF(exchange);
    if (failed)
        return -1;
    return is_over ? 0 : call(connection, name_served) ? -1 : 1;
}

/* Put the body that has arrived into an environ. */
static Verdict
put_body(Handler *self, PyObject *environ, Slice body)
{
    PyObject *bytes = body.size ? PyBytes_FromStringAndSize(body.at, body.size) : NULL;
    if (bytes == NULL)
        return body.size ? FAILED : put(environ, key_input, PyObject_CallNoArgs(self->buffer));
    Verdict verdict = put(environ, key_input, PyObject_CallOneArg(self->buffer, bytes));
    Py_DECREF(bytes);
    return verdict;
}

/* Leave a kept connection until its peer sends more: like its `wait`, which is called the first time
   to register it with the loop. */
static int
leave(Handler *self, PyObject *connection)
{
    int is_unknown = is_none(connection, name_lock);
    if (is_unknown < 0)
        return -1;
    if (is_unknown) {
        PyObject *waits = PyObject_CallMethodObjArgs(connection, name_wait, self->timeout, NULL);
        Py_XDECREF(waits);
        return waits == NULL ? -1 : 0;
    }
    double now = monotonic();
    return set_clock(connection, name_since, now)
                   || set_clock(connection, name_deadline, now + self->seconds)
               ? -1
               : 0;
}

/* The variables for a front's fields, borrowed; NULL: an error, or, without one, they are refused. */
static PyObject *
meaning_of(Handler *self, PyObject *fields, PyObject *host)
{
    if (self->told != NULL) {
        int is_same_host = PyObject_RichCompareBool(self->host_told, host, Py_EQ);
        int is_same = is_same_host == 1 ? PyObject_RichCompareBool(self->fields_told, fields, Py_EQ) : 0;
        if (is_same_host < 0 || is_same < 0)
            return NULL;
        if (is_same)
            return self->told;
    }
    PyObject *told = PyObject_CallFunctionObjArgs(self->tell, fields, host, NULL);
    if (told == NULL) {
        if (PyErr_ExceptionMatches(self->malformed))
            PyErr_Clear();
        return NULL;
    }
    if (!PyDict_CheckExact(told)) {
        Py_DECREF(told);
        PyErr_SetString(PyExc_TypeError, "tell() must return a dict");
        return NULL;
    }
    Py_INCREF(fields);
    Py_INCREF(host);
    PyObject *old[] = {self->fields_told, self->host_told, self->told};
    self->fields_told = fields;
    self->host_told = host;
    self->told = told;
    for (size_t i = 0; i < sizeof old / sizeof old[0]; i++)
        Py_XDECREF(old[i]);
    return told;
}

/* Update the environ with the data about the client, as far as the peer is trusted. */
static Verdict
tell_of_client(Handler *self, PyObject *connection, Message *message)
{
    int is_trusted = message->forwarded == NULL ? 0 : is_true(connection, name_trusted);
    if (is_trusted <= 0)
        return is_trusted < 0 ? FAILED : PLAIN;
    PyObject *environ = message->environ;
    PyObject *told = meaning_of(self, message->forwarded, message->host);
    if (told == NULL)
        return PyErr_Occurred() ? FAILED : UNUSUAL;
    int is_mounted = PyDict_Contains(told, key_mount);
    if (is_mounted < 0)
        return FAILED;
    if (PyDict_Update(environ, told))
        return FAILED;
    if (!is_mounted)
        return PLAIN;
    PyObject *name = value_in(environ, key_mount);
    PyObject *done = name == NULL ? NULL : PyObject_CallFunctionObjArgs(self->mount, environ, name, NULL);
    Py_XDECREF(name);
    Py_XDECREF(done);
    return done == NULL ? FAILED : PLAIN;
}

/* Complete the environ of a message that was read completely. */
static Verdict
prepare(Handler *self, PyObject *connection, Message *message, Slice body)
{
    PyObject *own = PyObject_GetAttr(connection, name_own);
    if (own == NULL)
        return FAILED;
    Verdict verdict = own != Py_None && PyDict_Update(message->environ, own) ? FAILED : PLAIN;
    Py_DECREF(own);
    if (verdict == PLAIN)
        verdict = tell_of_client(self, connection, message);
    if (verdict == PLAIN)
        verdict = put(message->environ, key_hints, PyObject_GetAttr(connection, name_early_hints));
    return verdict == PLAIN ? put_body(self, message->environ, body) : verdict;
}

/* Serve a request that fills `data`. If a part of its body has not arrived, and `begun` is not NULL,
   set that to a new reference to what is known of the request. */
static Verdict
serve_http(Handler *self, PyObject *connection, Slice data, PyObject **begun)
{
    Message message;
    Verdict verdict = read_message(self->fields, &message, data, self->base, self->limits);
    if (verdict == PLAIN && message.length > self->most)
        verdict = UNUSUAL;
    if (verdict == PLAIN && message.came < message.length) {
        verdict = UNUSUAL;
        if (begun != NULL && (*begun = told_of(&message, data)) == NULL)
            verdict = FAILED;
    }
    Slice body = {data.at + data.size - message.length, message.length};
    if (verdict == PLAIN)
        verdict = prepare(self, connection, &message, body);
    if (verdict == PLAIN
        && (PyObject_SetAttr(connection, name_request, message.closes ? self->last : self->kept)
            || PyObject_SetAttr(connection, name_done, Py_False)))
        verdict = FAILED;
    if (verdict == PLAIN) {
        PyObject *environ = message.environ;
        message.environ = NULL;
        int after = message.closes ? CLOSE : KEEP, more = answer(self, connection, environ, HTTP, after);
        if (more < 0 || (more == 0 && after == KEEP && leave(self, connection)))
            verdict = FAILED;
    }
    release_message(&message);
    return verdict;
}

/* Process an idle connection that has an event: read, and serve. Anything that is not plain goes to
   its `_advance`, with the bytes that were read. */
static int
advance(Handler *self, PyObject *connection)
{
    int fd = descriptor_of(connection);
    if (fd < 0)
        return PyErr_Occurred() ? -1 : 0;
    int is_resting = is_true(connection, name_resting);
    int is_half_closed = is_true(connection, name_half_closed);
    if (is_resting < 0 || is_half_closed < 0)
        return -1;
    if (!is_resting || is_half_closed)
        return call(connection, name_advance);
    PyObject *data = received_by(fd, CHUNK);
    if (data == NULL) {
        if (PyErr_ExceptionMatches(PyExc_BlockingIOError)) {
            PyErr_Clear();
            return 0;
        }
        if (!PyErr_ExceptionMatches(PyExc_OSError))
            return -1;
        PyErr_Clear();
        return call(connection, name_close);
    }
    Slice bytes = {PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)};
    Verdict verdict = bytes.size < CHUNK ? serve_http(self, connection, bytes, NULL) : UNUSUAL;
    if (verdict == UNUSUAL) {
        PyObject *done = PyObject_CallMethodObjArgs(connection, name_advance, data, NULL);
        verdict = done == NULL ? FAILED : PLAIN;
        Py_XDECREF(done);
    }
    Py_DECREF(data);
    return verdict == FAILED ? -1 : 0;
}

/* Take the lock of a connection if it is free: 1 or 0. */
static int
acquire(PyObject *lock)
{
    PyObject *got = PyObject_CallMethodObjArgs(lock, name_acquire, Py_False, NULL);
    if (got == NULL)
        return -1;
    Py_DECREF(got);
    return got == Py_True;
}

/* Like Connection.wake, once; return whether there is nothing more to do. */
static int
take_turn(Handler *self, PyObject *connection, PyObject *lock)
{
    if (PyObject_SetAttr(connection, name_again, Py_True))
        return -1;
    int is_ours = acquire(lock);
    if (is_ours <= 0)
        return is_ours < 0 ? -1 : 1; /* the thread that has it continues */
    int failed = PyObject_SetAttr(connection, name_again, Py_False) || advance(self, connection);
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    if (failed && call(connection, name_close))
        PyErr_Clear();
    failed |= call(lock, name_release);
    if (type != NULL) {
        PyErr_Clear();
        PyErr_Restore(type, error, traceback);
    }
    int again = failed ? -1 : is_true(connection, name_again);
    return again < 0 ? -1 : !again;
}

static PyObject *
handler_turn(PyObject *object, PyObject *connection)
{
    PyObject *lock = PyObject_GetAttr(connection, name_lock);
    int is_done = lock == NULL ? -1
                  : lock == Py_None ? 0
                                    : take_turn((Handler *)object, connection, lock);
    Py_XDECREF(lock);
    return is_done < 0 ? NULL : PyBool_FromLong(is_done);
}

/* Parse the arguments of a method; the verdict says whether the bytes can be read here. */
static int
bytes_of(PyObject *const *args, Py_ssize_t count, Py_ssize_t wanted, Slice *data)
{
    if (count != wanted) {
        PyErr_SetString(PyExc_TypeError, "expected a connection and the bytes it has received");
        return -1;
    }
    if (!PyBytes_CheckExact(args[1]))
        return 0; /* a bytearray has data that came in pieces */
    *data = (Slice){PyBytes_AS_STRING(args[1]), PyBytes_GET_SIZE(args[1])};
    return 1;
}

static PyObject *
handler_http(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    Slice data;
    int is_readable = bytes_of(args, count, 2, &data);
    if (is_readable < 0)
        return NULL;
    PyObject *begun = NULL;
    Verdict verdict = is_readable ? serve_http((Handler *)object, args[0], data, &begun) : UNUSUAL;
    if (verdict == FAILED)
        return NULL;
    return begun != NULL ? begun : PyBool_FromLong(verdict == PLAIN);
}

static PyObject *
handler_one_shot(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    Handler *self = (Handler *)object;
    Slice data, body;
    int is_readable = bytes_of(args, count, 3, &data);
    if (is_readable < 0)
        return NULL;
    long dialect = PyLong_AsLong(args[2]);
    if (dialect != SCGI && dialect != UWSGI) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "the dialect must be SCGI or UWSGI");
        return NULL;
    }
    if (!is_readable)
        Py_RETURN_NONE;
    PyObject *environ = read_one_shot(self->variables, (int)dialect, data, self->limits.header, &body);
    if (environ == NULL)
        return nothing();
    Py_ssize_t end = body.at - data.at;
    if (body.size > self->most || body.size > data.size - end)
        return Py_BuildValue("Nn", environ, end);
    if (put_body(self, environ, body) != PLAIN) {
        Py_DECREF(environ);
        return NULL;
    }
    if (answer(self, args[0], environ, (int)dialect, CLOSE) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

static int
handler_init(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"variables", "fields", "cgi",   "http",      "server", "pool", "workers", "loop", "base", "buffer",
                            "tell",      "mount",  "malformed", "kept", "last", "limits", "most",
                            "timeout",   "is_logged", NULL};
    Handler *self = (Handler *)object, new = {.ob_base = self->ob_base};
    if (!PyArg_ParseTupleAndKeywords(
            args, keywords, "O!O!O!O!OOO!OO!OOOOOO(nnn)nO!p:Handler", names, &Variables_Type, &new.variables,
            &Fields_Type, &new.fields, &Responder_Type, &new.cgi, &Responder_Type, &new.http,
            &new.server, &new.pool, &PyDict_Type, &new.workers, &new.loop, &PyDict_Type, &new.base, &new.buffer, &new.tell, &new.mount, &new.malformed, &new.kept,
            &new.last, &new.limits.header, &new.limits.count, &new.limits.line, &new.most,
            &PyFloat_Type, &new.timeout, &new.is_logged))
        return -1;
    if (self->variables != NULL) {
        PyErr_SetString(PyExc_TypeError, "a Handler can't be initialized twice");
        return -1;
    }
    new.seconds = PyFloat_AS_DOUBLE(new.timeout);
    PyObject *held[] = {(PyObject *)new.variables, (PyObject *)new.fields, (PyObject *)new.cgi,
                        (PyObject *)new.http, new.server, new.pool, new.workers, new.loop, new.base, new.buffer, new.tell, new.mount,
                        new.malformed, new.kept, new.last, new.timeout};
    for (size_t i = 0; i < sizeof held / sizeof held[0]; i++)
        Py_INCREF(held[i]);
    *self = new;
    return 0;
}

static int
handler_traverse(PyObject *object, visitproc visit, void *arg)
{
    Handler *self = (Handler *)object;
    Py_VISIT(self->variables);
    Py_VISIT(self->fields);
    Py_VISIT(self->cgi);
    Py_VISIT(self->http);
    Py_VISIT(self->server);
    Py_VISIT(self->pool);
    Py_VISIT(self->workers);
    Py_VISIT(self->loop);
    Py_VISIT(self->base);
    Py_VISIT(self->buffer);
    Py_VISIT(self->tell);
    Py_VISIT(self->mount);
    Py_VISIT(self->malformed);
    Py_VISIT(self->kept);
    Py_VISIT(self->last);
    Py_VISIT(self->fields_told);
    Py_VISIT(self->told);
    return 0;
}

static int
handler_clear(PyObject *object)
{
    Handler *self = (Handler *)object;
    Py_CLEAR(self->variables);
    Py_CLEAR(self->fields);
    Py_CLEAR(self->cgi);
    Py_CLEAR(self->http);
    Py_CLEAR(self->server);
    Py_CLEAR(self->pool);
    Py_CLEAR(self->workers);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->base);
    Py_CLEAR(self->buffer);
    Py_CLEAR(self->tell);
    Py_CLEAR(self->mount);
    Py_CLEAR(self->malformed);
    Py_CLEAR(self->kept);
    Py_CLEAR(self->last);
    Py_CLEAR(self->timeout);
    Py_CLEAR(self->fields_told);
    Py_CLEAR(self->host_told);
    Py_CLEAR(self->told);
    return 0;
}

static void
handler_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    handler_clear(object);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef handler_methods[] = {
    {"http", (PyCFunction)(void (*)(void))handler_http, METH_FASTCALL,
     "http(connection, data) -> whether that was a plain request, which has been answered; or what "
     "Fields.read() returns, if it is plain and the rest of its body is still to come"},
    {"turn", handler_turn, METH_O,
     "turn(connection): like its wake(), once, for HTTP -> whether there is nothing more to do"},
    {"one_shot", (PyCFunction)(void (*)(void))handler_one_shot, METH_FASTCALL,
     "one_shot(connection, data, dialect) -> True: it has been answered; (environ, offset of the "
     "body) of a request that is plain except for its body; None: it is not plain"},
    {NULL},
};

static PyTypeObject Handler_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "sdactivate.servers.native._accel.Handler",
    .tp_doc = "Handles a server's plain requests, from their bytes to the end of their answers.",
    .tp_basicsize = sizeof(Handler),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = handler_init,
    .tp_dealloc = handler_dealloc,
    .tp_traverse = handler_traverse,
    .tp_clear = handler_clear,
    .tp_methods = handler_methods,
};

/* -- System calls --------------------------------------------------------------------------------- */

static PyObject *
accept_one(PyObject *module, PyObject *number)
{
    int listener = (int)PyLong_AsLong(number);
    if (listener == -1 && PyErr_Occurred())
        return NULL;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        return PyLong_FromLong(fd);
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        Py_RETURN_NONE;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* Uninitialized bytes, which must be overwritten before anything reads them. */
static PyObject *
blank(PyObject *module, PyObject *number)
{
    Py_ssize_t size = PyLong_AsSsize_t(number);
    if (size == -1 && PyErr_Occurred())
        return NULL;
    return PyBytes_FromStringAndSize(NULL, size);
}

static PyMethodDef functions[] = {
    {"accept", accept_one, METH_O,
     "accept(fd) -> a non-blocking connection, or None if there is none"},
    {"blank", blank, METH_O, "blank(size) -> bytes with arbitrary content, to be overwritten"},
    {"receive", (PyCFunction)(void (*)(void))receive, METH_FASTCALL,
     "receive(fd, size) -> bytes, at most 64 KiB: like os.read on a non-blocking socket"},
    {NULL},
};

/* -- The module --------------------------------------------------------------------------------- */

static const struct {
    PyObject **place;
    const char *text;
} TEXTS[] = {
    {&key_method, "REQUEST_METHOD"},
    {&key_protocol, "SERVER_PROTOCOL"},
    {&key_uri, "REQUEST_URI"},
    {&key_path, "PATH_INFO"},
    {&key_query, "QUERY_STRING"},
    {&key_scheme, "wsgi.url_scheme"},
    {&key_mount, "SCRIPT_NAME"},
    {&key_client, "REMOTE_ADDR"},
    {&key_input, "wsgi.input"},
    {&key_hints, "wsgi.early_hints"},
    {&value_http11, "HTTP/1.1"},
    {&value_https, "https"},
    {&name_acquire, "acquire"},
    {&name_advance, "_advance"},
    {&name_again, "_again"},
    {&name_answered, "answered"},
    {&name_application, "application"},
    {&name_close, "close"},
    {&name_close_failed, "close_failed"},
    {&name_count_failure, "count_failure"},
    {&name_deadline, "deadline"},
    {&name_done, "done"},
    {&name_draining, "draining"},
    {&name_early_hints, "_early_hints"},
    {&name_end_turn, "end_turn"},
    {&name_failed, "failed"},
    {&name_fd, "fd"},
    {&name_finish, "finish"},
    {&name_half_closed, "half_closed"},
    {&name_happened, "happened"},
    {&name_is_error, "is_error"},
    {&name_join, "join"},
    {&name_keep_rest, "keep_rest"},
    {&name_lock, "_lock"},
    {&name_output, "output"},
    {&name_own, "own"},
    {&name_parser, "_parser"},
    {&name_recent, "recent"},
    {&name_record, "record"},
    {&name_release, "release"},
    {&name_request, "request"},
    {&name_respond, "respond"},
    {&name_response, "response"},
    {&name_resting, "resting"},
    {&name_run, "run"},
    {&name_say_error, "say_error"},
    {&name_served, "served"},
    {&name_since, "since"},
    {&name_start_response, "start_response"},
    {&name_streaming, "streaming"},
    {&name_takes_turns, "takes_turns"},
    {&name_trusted, "trusted"},
    {&name_unobserved, "unobserved"},
    {&name_wait, "wait"},
    {&name_where, "where"},
    {&name_write, "write"},
};

static const struct {
    const char *name;
    int value;
} NUMBERS[] = {
    /* kinds of variables */
    {"INTERFACE", 3}, /* accel.py expects this number */
    {"VARIABLE", VARIABLE}, {"DROPPED", DROPPED}, {"ODD", ODD}, {"METHOD", METHOD}, {"HOST", HOST},
    {"LENGTH", LENGTH}, {"HTTPS", HTTPS}, {"SCHEME", SCHEME}, {"QUERY", QUERY}, {"PORT", PORT},
    {"PROTOCOL", PROTOCOL}, {"SOFTWARE", SOFTWARE}, {"SERVER", SERVER}, {"MOUNT", MOUNT},
    {"PATH", PATH},
    /* kinds of fields */
    {"FIELD", FIELD}, {"FORWARDED", FORWARDED}, {"IGNORED", IGNORED}, {"PARSERS", PARSERS},
    {"FIELD_HOST", FIELD_HOST}, {"FIELD_LENGTH", FIELD_LENGTH}, {"CONNECTION", CONNECTION},
    /* dialects, and what follows a response */
    {"SCGI", SCGI}, {"UWSGI", UWSGI}, {"HTTP", HTTP}, {"FASTCGI", FASTCGI},
    {"CLOSE", CLOSE}, {"KEEP", KEEP}, {"SETTLE", SETTLE},
};

static int
make_texts(void)
{
    for (size_t i = 0; i < sizeof TEXTS / sizeof TEXTS[0]; i++)
        if (*TEXTS[i].place == NULL
            && (*TEXTS[i].place = PyUnicode_InternFromString(TEXTS[i].text)) == NULL)
            return -1;
    for (size_t i = 0; i < METHOD_COUNT; i++) {
        Slice method = {METHODS[i].name, METHODS[i].size - 1};
        if (method_names[i] == NULL && (method_names[i] = text_of(method)) == NULL)
            return -1;
    }
    if (no_bytes == NULL && (no_bytes = PyBytes_FromString("")) == NULL)
        return -1;
    return minus_one == NULL && (minus_one = PyLong_FromLong(-1)) == NULL ? -1 : 0;
}

static int
add_type(PyObject *module, const char *name, PyTypeObject *type)
{
    if (PyType_Ready(type))
        return -1;
    Py_INCREF(type);
    if (PyModule_AddObject(module, name, (PyObject *)type)) {
        Py_DECREF(type);
        return -1;
    }
    return 0;
}

static int
fill(PyObject *module)
{
    make_classes();
    if (make_texts() || PyType_Ready(&Outcome_Type) || add_type(module, "Variables", &Variables_Type)
        || add_type(module, "Fields", &Fields_Type) || add_type(module, "Exchange", &Exchange_Type)
        || add_type(module, "Responder", &Responder_Type)
        || add_type(module, "Handler", &Handler_Type))
        return -1;
    for (size_t i = 0; i < sizeof NUMBERS / sizeof NUMBERS[0]; i++)
        if (PyModule_AddIntConstant(module, NUMBERS[i].name, NUMBERS[i].value))
            return -1;
    return 0;
}

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "sdactivate.servers.native._accel",
    .m_doc = "The native server's hot path, compiled: see _accel.c.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__accel(void)
{
    PyObject *module = PyModule_Create(&module_definition);
    if (module != NULL && fill(module))
        Py_CLEAR(module);
    return module;
}
