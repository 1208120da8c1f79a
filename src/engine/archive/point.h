/*
 * The points of a place: archives of one name in a store, their object names, and what an index says of its archive as a
 * whole. A place is PREFIX/NAME/ in a store; an archive's objects are named by its base,
 * "2026-11-20T020000Z-full.tar.gz.aes", its volumes BASE or BASE.vol0001 and so on, its index BASE.index. Values; any
 * thread.
 */
#pragma once

#include "base/cancel.h"
#include "crypto/hash.h"
#include "store/store.h"

typedef enum { ARCHIVE_FULL = 1, ARCHIVE_INCREMENTAL, ARCHIVE_DIFFERENTIAL } ArchiveType;
typedef enum { ARCHIVE_PLAIN = 1, ARCHIVE_GZIP, ARCHIVE_ZSTD } ArchiveCodec;

/* "full", "incremental", "differential"; static. */
const char *archive_type_name(ArchiveType type);
/* FALSE if it is none of them. */
gboolean archive_type_parse(const char *text, ArchiveType *type);

#define ARCHIVE_VOLUMES_MAX 9999
/* The longest row of points that one restore needs. A longer one becomes a new full archive. */
#ifndef ARCHIVE_CHAIN_MAX /* a test has a smaller one */
#define ARCHIVE_CHAIN_MAX 800
#endif
/* The longest NAME, bytes. */
#define ARCHIVE_NAME_MAX 128

/* Where archives of one name lie. */
typedef struct {
    Store *store;     /* below PREFIX */
    const char *name; /* a single segment: no slash, not beginning with a dot, at most ARCHIVE_NAME_MAX, UTF-8 */
    const guint8 *content_key; /* TINK_KEY_BYTES; NULL: not encrypted, and encrypted ones cannot be read */
} ArchivePlace;

/* FALSE with INVALID if no place can have this name. */
gboolean archive_check_name(const char *name, GError **error);

/* What an object's name says. */
typedef enum { ARCHIVE_OBJECT_VOLUME, ARCHIVE_OBJECT_INDEX } ArchiveRole;
typedef struct {
    gint64 time; /* seconds since 1970 */
    ArchiveType type;
    ArchiveCodec codec;
    gboolean encrypted;
    ArchiveRole role;
    guint volume; /* 1 and on; 0: the only one, without a number in its name; 0 for an index */
} ArchiveName;

/* The base name ("2026-11-20T020000Z-full.tar.gz.aes") / with what the role adds. The caller frees. */
char *archive_base_name(const ArchiveName *name);
char *archive_object_name(const ArchiveName *name);
/* Reads an object's name (without PREFIX/NAME/). FALSE if it is not one of ours. Strict: prints to the same again. */
gboolean archive_name_parse(const char *text, ArchiveName *name);

/* The associated data that binds an object to its place in an archive: the bytes
 * "backapp archive 1\nNAME/BASE\nVOLUME\nROLE", VOLUME in decimal (1 for an only one, 0 for the index), ROLE "data" or
 * "index". The caller frees. */
char *archive_associated(const char *place_name, const char *base, guint volume, ArchiveRole role);

/* One volume as it lies in the store. */
typedef struct {
    guint64 size;                  /* of the object, bytes */
    guint64 packed_size;           /* of the members in it: size without encryption */
    guint64 first_member;          /* number of its first member in the archive */
    guint64 part_size;             /* of which parts_hash is made */
    guint8 parts_hash[HASH_BYTES]; /* SHA-256 of the object's parts' SHA-256s in order */
} ArchiveVolume;

/* The size of every member before compression, but the last of an archive. */
#define ARCHIVE_MEMBER_BYTES (1024 * 1024)

/* What an index says of its archive as a whole. Strings and arrays are owned. */
typedef struct {
    ArchiveName name; /* of the index object */
    char *base;
    char *place_name;
    gint64 time;   /* when the run began, seconds since 1970 */
    gint64 scan_s; /* when its look at the sources began */
    guint32 scan_ns;
    char *parent;                   /* base of the point that this one needs; NULL: none */
    guint8 parent_hash[HASH_BYTES]; /* of its index's footer */
    char *host;
    GPtrArray *sources; /* of char * */
    GArray *volumes;    /* of ArchiveVolume; empty if nothing was to be stored */
    gboolean numbered;  /* the volumes' names have numbers */
    int level;
    guint64 tar_size; /* of the members together, before compression */
    guint64 members;
    guint64 files, directories, bytes; /* of the whole tree at this point: files are all that are no directories */
    guint64 entries, deletions;        /* in this index */
    guint64 unread;                    /* files of the sources that could not be read or changed all the time */
    gboolean partial;
    gboolean rebuilt;        /* from the volumes, as the index was lost: another hash than what was made on it knows */
    guint8 hash[HASH_BYTES]; /* of this index's footer; set by reading and by writing */
} ArchivePoint;

/* TRUE if `child` was made on this very point, or on a full archive whose index was made anew since. */
gboolean archive_is_parent(const ArchivePoint *point, const char *child_parent, const guint8 child_hash[HASH_BYTES]);

void archive_point_free(ArchivePoint *point);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ArchivePoint, archive_point_free)

/* A key in place.store of an object of this archive. The caller frees. */
char *archive_index_key(const char *place_name, const char *base);
char *archive_volume_key(const ArchivePoint *point, guint volume_index /* from 0 */);

/* One line of the list of a place: what the objects' names and sizes say, without opening anything. */
typedef struct {
    ArchiveName name;
    char *base;
    gboolean has_index;               /* else it is unfinished, or its index was lost */
    guint64 index_size, stored_bytes; /* volumes' bytes */
    guint volumes;
    gint64 modified; /* of the newest of its objects, by the store's clock */
} ArchiveListed;
void archive_listed_free(ArchiveListed *listed);

/* All archives of a place by time, newest first (of ArchiveListed *, freed with the array). Objects that are none of ours
 * are passed over. */
GPtrArray *archive_list(const ArchivePlace *place, const CancelFlag *cancel, GError **error);

/* The names of places below the store (of char *, sorted, freed with the array): those folders that hold an index or a
 * volume. Looks at no more than the first objects of each folder. */
GPtrArray *archive_places(Store *store, const CancelFlag *cancel, GError **error);
