use super::*;

#[test]
fn swaps_count_once_and_far_words_are_not_suggested() {
    assert_eq!(edit_distance("intervall", "interval"), 1);
    assert_eq!(edit_distance("pahT", "path"), 2);
    assert_eq!(edit_distance("tiemout", "timeout"), 1);
    assert_eq!(edit_distance("", "abc"), 3);
    assert_eq!(nearest("intervall", ["rise", "interval"].into_iter()), Some("interval"));
    assert_eq!(nearest("colour", ["rise", "interval"].into_iter()), None);
}
